package cli

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// TestInitSamples: what init writes passes check and migrate up as it is, and
// the triggers record what the config promises.
func TestInitSamples(t *testing.T) {
	t.Parallel()
	pgbench := func(t *testing.T, url string) {
		path, err := exec.LookPath("pgbench")
		if err != nil {
			t.Skip("pgbench is not installed")
		}
		out, err := exec.CommandContext(t.Context(), path, "-i", "-q", "--foreign-keys", "--partitions=2", url).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	file := func(name string) func(*testing.T, string) {
		return func(t *testing.T, url string) {
			sql, err := os.ReadFile(filepath.Join("..", "introspect", "testdata", name))
			require.NoError(t, err)
			conn, err := pgx.Connect(t.Context(), url)
			require.NoError(t, err)
			defer conn.Close(t.Context())
			_, err = conn.Exec(t.Context(), string(sql))
			require.NoError(t, err)
		}
	}
	for name, test := range map[string]struct {
		create func(*testing.T, string)
		change string
		keys   []string // of the outbox row, in any order
	}{
		"pgbench": {pgbench, "UPDATE pgbench_tellers SET tbalance = 1 WHERE tid = 7", []string{`"tid": "7"`, `"bid": "1"`}},
		"film rental": {
			file("film_rental.sql"), "UPDATE film_actor SET actor_id = 2 WHERE film_id = 1",
			[]string{`"film_id": "1"`, `"actor_id": "1"`, `"actor_id": "2"`},
		},
		"shop": {
			file("shop.sql"), `UPDATE "Order Details" SET "Quantity" = 13 WHERE "ProductID" = 2`,
			[]string{`"OrderID": "10248"`, `"ProductID": "2"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := servertest.Postgres(t)
			test.create(t, url)
			out := filepath.Join(t.TempDir(), "icache.yaml")
			env := []string{"ICACHE_POSTGRES__URL=" + url} // the password is not in the config
			run := func(args ...string) string {
				r := agentCLIEnv(t, env, args...)
				require.Equal(t, exitOK, r.code, "%s%s", r.stdout, r.stderr)
				return r.stdout
			}
			require.Contains(t, run("init", "-o", out), "migrate up -c "+out)
			ok(t, "check", "-c", out)
			run("migrate", "up", "-c", out)
			run("migrate", "status", "-c", out)

			conn, err := pgx.Connect(t.Context(), url)
			require.NoError(t, err)
			defer conn.Close(t.Context())
			_, err = conn.Exec(t.Context(), test.change)
			require.NoError(t, err)
			var keys string
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT keys::text FROM icache.outbox").Scan(&keys))
			for _, want := range test.keys {
				require.Contains(t, keys, want)
			}

			// icache's own objects are left out of a second one.
			again := decode[initOut](t, run("init", "-o", out, "--force", "--json"))
			require.Contains(t, again.LeftOut, leftOut{"schema icache", "belongs to icache itself"})
			run("migrate", "status", "-c", out)
		})
	}
}

func TestInit(t *testing.T) {
	t.Parallel()
	url, err := url.Parse(servertest.Postgres(t))
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), url.String())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), movies)
	require.NoError(t, err)
	dir := t.TempDir()
	out := filepath.Join(dir, "icache.yaml")
	run := func(args ...string) result {
		return agentCLI(t, append([]string{"init", "--postgres-url", url.String()}, args...)...)
	}

	r := run("-o", out, "--tables", "movie*")
	require.Equal(t, exitOK, r.code, r.stderr)
	written, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Contains(t, string(written), `"genres:{genre_id}"`)
	require.NotContains(t, string(written), "public.genres")

	r = run("-o", out)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "--force")
	after, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, written, after)
	r = run("-o", out, "--force", "--schema", "public")
	require.Equal(t, exitOK, r.code, r.stderr)
	after, err = os.ReadFile(out)
	require.NoError(t, err)
	require.Contains(t, string(after), "public.genres")
	require.Contains(t, string(after), "schema: icache ", "--schema is the one to read")

	for _, test := range []struct{ pattern, hint string }{{"moviez", `did you mean "movies"?`}, {"x", "wildcards"}} {
		r = run("-o", "-", "--tables", test.pattern)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, test.hint)
		require.Empty(t, r.stdout)
	}
	require.Equal(t, exitFailed, run("-o", filepath.Join(dir, "no", "dir.yaml")).code)
	require.Equal(t, exitUsage, run("-o", "-", "--json").code)

	r = agentCLI(t, "init", "-o", filepath.Join(dir, "new.yaml"))
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "postgres.url")
}

// TestInitHidesPasswords: they are not written down, wherever they came from.
func TestInitHidesPasswords(t *testing.T) {
	t.Parallel()
	server := servertest.Postgres(t)
	u, err := url.Parse(server)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), server)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	role := servertest.Prefix(t)
	_, err = conn.Exec(t.Context(), `CREATE ROLE "`+role+`" LOGIN SUPERUSER PASSWORD '`+secret+`'; `+movies)
	require.NoError(t, err)
	defer func() {
		_, err := conn.Exec(t.Context(), `DROP ROLE "`+role+`"`)
		require.NoError(t, err)
	}()
	u.User = url.UserPassword(role, secret)
	dir := t.TempDir()
	urlFile := filepath.Join(dir, "url")
	require.NoError(t, os.WriteFile(urlFile, []byte(u.String()), 0o600))
	config := filepath.Join(dir, "old.yaml")
	require.NoError(t, os.WriteFile(config, []byte("postgres: {url_file: url}\nredis: {url: \"redis://:"+secret+"@cache/1\"}\n"), 0o600))

	for name, r := range map[string]result{
		"environment": agentCLIEnv(t, []string{"ICACHE_POSTGRES__URL=" + u.String()}, "init", "-o", "-"),
		"file":        agentCLI(t, "init", "-o", "-", "-c", config),
	} {
		require.Equal(t, exitOK, r.code, r.stderr)
		if name == "file" {
			require.Contains(t, r.stdout, "url_file: ")
			require.Contains(t, r.stdout, urlFile)
			require.Contains(t, r.stdout, "redis://cache/1")
		} else {
			require.Contains(t, r.stdout, strings.Replace(u.String(), ":"+secret, "", 1))
		}
		require.Contains(t, r.stdout, "# the password is left out", name)
	}
}
