package demo

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/demo/servers"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
)

// envChild makes the test program behave like icache-agent demo.
const envChild = "ICACHE_DEMO_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(envChild) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err := Run(ctx, Options{Listen: "127.0.0.1:0", Stdout: os.Stdout, Stderr: os.Stderr})
		stop()
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	servertest.Main(m)
}

// transcript is an output that can be read while it is written.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

// options returns options with an environment of its own.
func options(out *transcript, env map[string]string) Options {
	return Options{Stdout: out, Stderr: out, Getenv: func(name string) string {
		if name == "PATH" {
			return os.Getenv(name)
		}
		return env[name]
	}}.withDefaults()
}

// given is the environment of a user who names both servers.
func given(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{servers.EnvPostgresURL: servertest.Postgres(t), servers.EnvRedisURL: servertest.Redis(t)}
}

func scalar[T any](t *testing.T, url, sql string) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&v))
	return v
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

const countSchemas = `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'icache%'`

func TestOnceOnGivenServers(t *testing.T) {
	t.Parallel()
	env := given(t)
	env[servers.EnvPostgresURL] = servertest.OwnPostgres(t).URL() // roles belong to a server, not to a database
	out := &transcript{}
	opt := options(out, env)
	opt.Once = true
	require.NoError(t, Run(t.Context(), opt), out)

	for _, want := range []string{
		"1. First request for a film", "rendered", "2. The same again", "from the cache",
		"UPDATE icache_demo.films SET title = 'Se7en' WHERE id = 12", "(id=12) → films film:12",
		"“Se7en”", "6. Another film, all the while",
	} {
		require.Contains(t, out.String(), want)
	}
	require.NotContains(t, out.String(), env[servers.EnvPostgresURL], "a URL of the user's may hold a password")

	require.Zero(t, scalar[int](t, env[servers.EnvPostgresURL], countSchemas), "schemas are left")
	require.Zero(t, scalar[int](t, env[servers.EnvPostgresURL], `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'icache%'`), "roles are left")
	require.Empty(t, demoKeys(t, env[servers.EnvRedisURL], keyPrefix(t, env[servers.EnvPostgresURL])), "keys are left")
}

func keyPrefix(t *testing.T, url string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	return redisPrefix(cfg)
}

func demoKeys(t *testing.T, url, prefix string) []string {
	t.Helper()
	opt, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(opt)
	defer client.Close()
	keys, err := client.Keys(t.Context(), prefix+"*").Result()
	require.NoError(t, err)
	return keys
}

func TestOnceOnLocalServers(t *testing.T) {
	t.Parallel()
	out := &transcript{}
	opt := options(out, map[string]string{servers.EnvPostgres: "local", servers.EnvRedis: "local"})
	opt.Once = true
	require.NoError(t, Run(t.Context(), opt), out)
}

// miniredis lacks some commands of Redis; page and agent must do without them.
func TestOnceWithMemoryRedis(t *testing.T) {
	t.Parallel()
	out := &transcript{}
	opt := options(out, map[string]string{servers.EnvPostgresURL: servertest.Postgres(t), servers.EnvRedis: "memory"})
	opt.Once = true
	require.NoError(t, Run(t.Context(), opt), out)
	require.Contains(t, out.String(), "miniredis inside this process")
}

// A story that does not come true is an error.
func TestOnceWithoutAnAgentFails(t *testing.T) {
	t.Parallel()
	out := &transcript{}
	st, err := open(t.Context(), options(out, given(t)))
	defer func() { require.NoError(t, st.close()) }()
	require.NoError(t, err, out)
	st.stop()
	err = <-st.stopped
	st.stopped <- err
	require.NoError(t, err)

	web, err := newServer(st, st.opt.Logger)
	require.NoError(t, err)
	opt := Options{Once: true}
	ln, err := listen(t.Context(), opt)
	require.NoError(t, err)
	err = web.serve(t.Context(), ln, func(ctx context.Context, url string) error {
		return tell(ctx, story{out: out, url: url, stage: st, limit: 300 * time.Millisecond})
	})
	require.ErrorContains(t, err, `the page still says "Seven", from the cache`)
}

func TestASchemaOfTheUsersIsLeftAlone(t *testing.T) {
	t.Parallel()
	env := given(t)
	execute(t, env[servers.EnvPostgresURL], "CREATE SCHEMA icache_demo CREATE TABLE mine (id int)")
	opt := options(&transcript{}, env)
	opt.Once = true
	require.ErrorIs(t, Run(t.Context(), opt), errSchemaTaken)
	require.Equal(t, 1, scalar[int](t, env[servers.EnvPostgresURL], "SELECT count(*) FROM pg_class WHERE relname = 'mine'"))
}

func TestOneDemoPerDatabase(t *testing.T) {
	t.Parallel()
	env := given(t)
	first, err := open(t.Context(), options(&transcript{}, env))
	defer func() { require.NoError(t, first.close()) }()
	require.NoError(t, err)

	opt := options(&transcript{}, env)
	opt.Once = true
	require.ErrorIs(t, Run(t.Context(), opt), errRunning)
	require.Equal(t, 2, scalar[int](t, env[servers.EnvPostgresURL], countSchemas), "the first demo's schemas")
}

func TestWhatAKilledDemoLeftIsReplaced(t *testing.T) {
	t.Parallel()
	env := given(t)
	killed, err := open(t.Context(), options(&transcript{}, env))
	require.NoError(t, err)
	killed.made = false // so that close leaves it
	require.NoError(t, killed.close())
	require.Equal(t, 2, scalar[int](t, env[servers.EnvPostgresURL], countSchemas))

	opt := options(&transcript{}, env)
	opt.Once = true
	require.NoError(t, Run(t.Context(), opt))
	require.Zero(t, scalar[int](t, env[servers.EnvPostgresURL], countSchemas))
}

func TestListen(t *testing.T) {
	t.Parallel()
	first, err := listen(t.Context(), Options{})
	require.NoError(t, err)
	defer first.Close()
	second, err := listen(t.Context(), Options{})
	require.NoError(t, err)
	defer second.Close()
	require.NotEqual(t, first.Addr().String(), second.Addr().String(), "the next free port")

	_, err = listen(t.Context(), Options{Listen: first.Addr().String()})
	require.ErrorIs(t, err, syscall.EADDRINUSE, "an address that was asked for")
}

func TestRulesAreAValidConfig(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "icache.yaml")
	require.NoError(t, os.WriteFile(file, rules(), 0o600))
	cfg, warnings, err := config.Load(config.Options{File: file, Environ: []string{}})
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, agentSchema, cfg.Postgres.Schema)

	want, err := demoRules()
	require.NoError(t, err)
	require.Len(t, cfg.Rules(), len(want))
	for i, rule := range cfg.Rules() {
		require.Equal(t, want[i].Table, rule.Table)
		require.Equal(t, want[i].Tokens, rule.Tokens)
	}
	_, err = mapping.Compile(want)
	require.NoError(t, err)
}

func TestFilms(t *testing.T) {
	t.Parallel()
	one, err := loadFilms()
	require.NoError(t, err)
	two, err := loadFilms()
	require.NoError(t, err)
	require.Equal(t, one, two, "the ratings are the same on every run")
	require.GreaterOrEqual(t, len(one.films), 40)
	ids := map[any]bool{}
	for _, f := range one.films {
		require.False(t, ids[f[0]], "film %v is there twice", f[0])
		ids[f[0]] = true
		require.Greater(t, f[2], 1900)
		require.Greater(t, f[3], 60)
	}
	require.Equal(t, "Seven", one.films[defaultFilm-1][1])
	require.Greater(t, len(one.ratings), 100)
	for _, r := range one.ratings {
		require.LessOrEqual(t, r[2], mostStars)
		require.GreaterOrEqual(t, r[2], 1)
	}
}
