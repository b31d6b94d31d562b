package servers

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// said collects what a Finder says.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *said) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// finder returns a Finder with an environment of its own: the given variables,
// and the real PATH behind the given directory of fake commands.
func finder(t *testing.T, fakes string, env map[string]string) (*Finder, *said) {
	t.Helper()
	out := &said{}
	path := os.Getenv("PATH")
	if fakes != "" {
		path = fakes + string(os.PathListSeparator) + path
	}
	return &Finder{
		Getenv: func(name string) string {
			if v, ok := env[name]; ok {
				return v
			}
			if name == "PATH" {
				return path
			}
			return ""
		},
		Say: out.say,
	}, out
}

// fake writes an executable script and returns the directory that it is in.
func fake(t *testing.T, name, script string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755))
	return dir
}

func requirePostgres(t *testing.T, s *Server) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var version int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version))
	require.GreaterOrEqual(t, version, 150000)
}

func requireRedis(t *testing.T, s *Server) {
	t.Helper()
	opt, err := redis.ParseURL(s.URL)
	require.NoError(t, err)
	client := redis.NewClient(opt)
	defer client.Close()
	require.NoError(t, client.Set(t.Context(), "icache-demo-test", "1", time.Second).Err())
}

func requireGone(t *testing.T, s *Server, ping func(context.Context, string) error) {
	t.Helper()
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "a second Close")
	require.Error(t, ping(t.Context(), s.URL), "the server still answers after Close")
}

func TestGivenServers(t *testing.T) {
	t.Parallel()
	f, out := finder(t, "", map[string]string{
		EnvPostgresURL: servertest.Postgres(t),
		EnvRedisURL:    servertest.Redis(t),
		EnvPostgres:    "docker", // the URL wins
	})
	pg, err := f.Postgres(t.Context())
	require.NoError(t, err)
	require.True(t, pg.Given)
	requirePostgres(t, pg)
	rd, err := f.Redis(t.Context())
	require.NoError(t, err)
	require.True(t, rd.Given)
	requireRedis(t, rd)
	require.Empty(t, out.text())

	require.NoError(t, pg.Close())
	require.NoError(t, rd.Close())
	requirePostgres(t, pg) // not ours to stop
	requireRedis(t, rd)

	require.Equal(t, `psql "$DATABASE_URL" -c "SELECT 'a' AS \"b\""`, pg.Client(`SELECT 'a' AS "b"`))
}

func TestGivenServersThatAreWrong(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for name, env := range map[string]map[string]string{
		"postgres syntax":  {EnvPostgresURL: "postgres://u:" + secret + "@h:not-a-port/d"},
		"postgres refused": {EnvPostgresURL: "postgres://u:" + secret + "@127.0.0.1:1/d"},
		"redis syntax":     {EnvRedisURL: "redis://:" + secret + "@h:not-a-port/0"},
		"redis scheme":     {EnvRedisURL: "http://:" + secret + "@127.0.0.1/0"},
		"redis refused":    {EnvRedisURL: "redis://:" + secret + "@127.0.0.1:1/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, out := finder(t, "", env)
			start, variable := f.Postgres, EnvPostgresURL
			if env[EnvPostgresURL] == "" {
				start, variable = f.Redis, EnvRedisURL
			}
			_, err := start(t.Context())
			require.ErrorContains(t, err, variable)
			require.NotContains(t, err.Error(), secret)
			require.Empty(t, out.text(), "a server that the user named must not be replaced by another")
		})
	}
}

func TestLocalServers(t *testing.T) {
	t.Parallel()
	f, _ := finder(t, "", map[string]string{EnvPostgres: "local", EnvRedis: "local"})
	pg, err := f.Postgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = pg.Close() })
	requirePostgres(t, pg)
	rd, err := f.Redis(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = rd.Close() })
	requireRedis(t, rd)
	require.False(t, pg.Given || rd.Given || rd.Short)
	requireGone(t, pg, pingPostgres)
	requireGone(t, rd, pingRedis)
}

func TestMemoryRedis(t *testing.T) {
	t.Parallel()
	f, _ := finder(t, "", map[string]string{EnvRedis: "memory"})
	rd, err := f.Redis(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = rd.Close() })
	require.True(t, rd.Short)
	requireRedis(t, rd)

	opt, err := redis.ParseURL(rd.URL)
	require.NoError(t, err)
	client := redis.NewClient(opt)
	defer client.Close()
	require.Eventually(t, func() bool {
		n, err := client.Exists(t.Context(), "icache-demo-test").Result()
		return err == nil && n == 0
	}, 10*time.Second, 50*time.Millisecond, "a key with a time to live must expire")
	requireGone(t, rd, pingRedis)
}

// Docker that is broken in any way costs one line at most and a bounded wait.
func TestBrokenDockerFallsThrough(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ script, line string }{
		"no engine":   {`echo "Cannot connect to the Docker daemon" >&2; exit 1`, ""},
		"no image":    {`case $1 in info) echo 27.0;; image) exit 1;; pull) echo "no route to host" >&2; exit 1;; esac`, "docker pull: exit status 1: no route to host"},
		"run fails":   {`case $1 in info) echo 27.0;; image) echo sha256;; run) echo "port is taken" >&2; exit 125;; esac`, "docker run: exit status 125: port is taken"},
		"dies":        {`case $1 in info) echo 27.0;; image) echo sha256;; run) echo id;; port) echo 127.0.0.1:1;; inspect) echo false;; esac`, "ended by itself"},
		"odd address": {`case $1 in info) echo 27.0;; image) echo sha256;; run) echo id;; port) echo nonsense;; esac`, `unexpected answer "nonsense"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, out := finder(t, fake(t, "docker", tc.script), nil)
			rd, err := f.Redis(t.Context())
			require.NoError(t, err)
			defer rd.Close()
			require.Contains(t, rd.Where, "redis-server")
			if tc.line == "" {
				require.Empty(t, out.text())
				return
			}
			require.Contains(t, out.text(), tc.line)
			require.Contains(t, out.text(), "Redis by way of docker: ")
			require.Contains(t, out.text(), "; trying the next way")
		})
	}
}

func TestHangingDockerIsLeftBehind(t *testing.T) {
	t.Parallel()
	f, _ := finder(t, fake(t, "docker", "exec sleep 600"), nil)
	begun := time.Now()
	rd, err := f.Redis(t.Context())
	require.NoError(t, err)
	defer rd.Close()
	require.Less(t, time.Since(begun), dockerInfoLimit+20*time.Second)
}

// The commands given to docker, against a server that stands in for the container.
func TestDockerCommands(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	addr := strings.TrimSuffix(strings.TrimPrefix(servertest.Redis(t), "redis://"), "/0")
	f, _ := finder(t, fake(t, "docker", `echo "$*" >>`+log+`
case $1 in info) echo 27.0;; image) exit 1;; port) echo `+addr+`; echo '[::1]:1';; inspect) echo true;; esac`),
		map[string]string{EnvRedis: "docker", EnvRedisImage: "mirror/redis:8"})
	rd, err := f.Redis(t.Context())
	require.NoError(t, err)
	require.Contains(t, rd.Where, addr)
	require.NoError(t, rd.Close())

	text, err := os.ReadFile(log)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	require.Len(t, lines, 6)
	name := strings.Fields(lines[5])[3]
	require.Equal(t, []string{
		"info --format {{.ServerVersion}}",
		"image inspect --format {{.Id}} mirror/redis:8",
		"pull --quiet mirror/redis:8",
		"run --detach --rm --name " + name + " --label icache-demo --publish 127.0.0.1::6379 mirror/redis:8",
		"port " + name + " 6379/tcp",
		"rm --force --volumes " + name,
	}, lines)
}

// With a Docker engine and the images at hand, the real thing.
func TestDocker(t *testing.T) {
	t.Parallel()
	env := map[string]string{EnvPostgres: "docker", EnvRedis: "docker"}
	for _, name := range []string{EnvPostgresImage, EnvRedisImage, "DOCKER_HOST", "HOME"} {
		env[name] = os.Getenv(name)
	}
	f, _ := finder(t, "", env)
	for _, image := range []string{or(env[EnvPostgresImage], "postgres:17-alpine"), or(env[EnvRedisImage], "redis:7-alpine")} {
		if _, err := f.run(t.Context(), dockerInfoLimit, nil, "docker", "image", "inspect", image); err != nil {
			t.Skipf("no Docker engine with the image %s: %v", image, err)
		}
	}
	pg, err := f.Postgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = pg.Close() })
	requirePostgres(t, pg)
	rd, err := f.Redis(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = rd.Close() })
	requireRedis(t, rd)
	requireGone(t, pg, pingPostgres)
	requireGone(t, rd, pingRedis)
	for _, s := range []*Server{pg, rd} {
		container := strings.Fields(s.Where)[2]
		left, err := f.run(t.Context(), dockerInfoLimit, nil, "docker", "ps", "--all", "--quiet", "--filter", "name="+container)
		require.NoError(t, err)
		require.Empty(t, left, "container %s is still there", container)
	}
}

func TestInstallHoldsServicesBack(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the way is for root only")
	}
	policy := filepath.Join(t.TempDir(), "policy-rc.d")
	log := filepath.Join(t.TempDir(), "log")
	f, out := finder(t, fake(t, "apt-get", `"`+policy+`"; echo "$DEBIAN_FRONTEND $? $*" >>`+log), map[string]string{EnvPostgres: "install", EnvRedis: "install"})
	f.policy = policy
	rd, err := f.Redis(t.Context())
	require.NoError(t, err)
	defer rd.Close()
	pg, err := f.Postgres(t.Context())
	require.NoError(t, err)
	defer pg.Close()
	requirePostgres(t, pg)

	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, `noninteractive 101 update -qq
noninteractive 101 install -y -qq --no-install-recommends redis-server
noninteractive 101 install -y -qq --no-install-recommends postgresql
`, string(text))
	require.NoFileExists(t, policy)
	require.Contains(t, out.text(), "Installing the Debian package redis-server with apt-get")
}

func TestInstallLeavesAnExistingPolicyAlone(t *testing.T) {
	t.Parallel()
	policy := filepath.Join(t.TempDir(), "policy-rc.d")
	require.NoError(t, os.WriteFile(policy, []byte("mine"), 0o755))
	allow, err := holdServices(policy)
	require.NoError(t, err)
	allow()
	text, err := os.ReadFile(policy)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))
}

func TestUnknownWay(t *testing.T) {
	t.Parallel()
	f, _ := finder(t, "", map[string]string{EnvPostgres: "podman"})
	_, err := f.Postgres(t.Context())
	require.EqualError(t, err, "ICACHE_DEMO_POSTGRES=podman: no such way to get a Postgres; use one of docker, local, install, embedded")
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f, out := finder(t, fake(t, "docker", "exec sleep 600"), nil)
	time.AfterFunc(200*time.Millisecond, cancel)
	_, err := f.Postgres(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, out.text())
}
