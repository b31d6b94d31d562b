package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// secret is a password that must never be shown.
const secret = "hunter2-secret"

// result is what a command line left behind.
type result struct {
	code           int
	stdout, stderr string
}

// agentCLI runs a command line in process.
func agentCLI(t *testing.T, args ...string) result {
	t.Helper()
	return agentCLIEnv(t, []string{}, args...)
}

func agentCLIEnv(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := Run(ctx, args, env, &stdout, &stderr)
	r := result{code, stdout.String(), stderr.String()}
	require.NotContains(t, r.stdout+r.stderr, secret, "icache-agent %s", strings.Join(args, " "))
	return r
}

// ok runs a command line that must succeed and returns what it printed.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	r := agentCLI(t, args...)
	require.Equal(t, exitOK, r.code, "icache-agent %s\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
	return r.stdout
}

// decode reads what a command line with --json printed.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// world is a database, a prefix of tokens in Redis, and a config for both.
type world struct {
	url    string // of the database
	prefix string
	dir    string
	config string // path
	db     *pgx.Conn
}

const movies = `
CREATE TABLE genres (id int PRIMARY KEY, name text);
CREATE TABLE movies (id int PRIMARY KEY, title text, genre_id int REFERENCES genres);
INSERT INTO genres VALUES (7, 'drama'), (8, 'comedy');
INSERT INTO movies VALUES (42, 'A', 7), (43, 'B', 7);`

const movieRules = `
  - table: movies
    tokens: ["movies", "movie:{id}", "genre:{genre_id}"]`

// newWorld makes a database with the given SQL, and a config with rules.
func newWorld(t *testing.T, sql, rules string) *world {
	t.Helper()
	w := &world{url: servertest.Postgres(t), prefix: servertest.Prefix(t), dir: t.TempDir()}
	var err error
	w.db, err = pgx.Connect(t.Context(), w.url)
	require.NoError(t, err)
	t.Cleanup(func() { w.db.Close(context.Background()) })
	w.exec(t, sql)
	w.config = w.write(t, "icache.yaml", w.yaml(servertest.Redis(t), "127.0.0.1:0", rules))
	return w
}

func (w *world) yaml(redisURL, listen, rules string) string {
	// Roles belong to the whole server, where other tests take down theirs.
	return fmt.Sprintf("postgres: {url: %q, writer_role: %s}\nredis: {url: %q, token_key: %q}\nhttp: {listen: %q}\ntables:%s\n",
		w.url, w.prefix+"writer", redisURL, w.prefix+":t:{token}", listen, rules)
}

func (w *world) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := w.db.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// run is agentCLI with the config of the world.
func (w *world) run(t *testing.T, args ...string) result {
	t.Helper()
	return agentCLI(t, append(args, "-c", w.config)...)
}

func (w *world) ok(t *testing.T, args ...string) string {
	t.Helper()
	return ok(t, append(args, "-c", w.config)...)
}
