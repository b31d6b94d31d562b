package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// tool runs a program of a server's version, and returns what it printed.
func tool(t *testing.T, server *localserver.Postgres, name string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(server.BinDir(), name)
	if _, err := exec.LookPath(path); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = cleanEnv()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func superuser(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}

// TestDumpAndRestore moves a database with triggers and undrained changes to
// another cluster, whose transaction ids mean something else.
func TestDumpAndRestore(t *testing.T) {
	t.Parallel()
	from, to := servertest.OwnPostgres(t), servertest.OwnPostgres(t)
	superuser(t, from.URL(), "CREATE DATABASE app")
	source := newStack(t, from.DatabaseURL("app"), servertest.Redis(t), movieRules)
	source.exec(t, movieSchema)
	succeed(t, "migrate", "up", "--event-trigger", "-c", source.config)
	a := startAgent(t, source.config)
	source.exec(t, "UPDATE movies SET title = 'before the dump' WHERE id = 2")
	source.awaitBump(t, "movie:2", 0)
	a.terminate(t)
	source.exec(t, "UPDATE movies SET title = 'in the outbox' WHERE id = 1")
	require.NotZero(t, query[int](t, source, "SELECT count(*) FROM icache.outbox"))

	dir := t.TempDir()
	dump := func(name string, args ...string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		out, err := tool(t, from, "pg_dump", append(args, "-Fc", "-f", file, from.DatabaseURL("app"))...)
		require.NoError(t, err, out)
		return file
	}
	// target makes a database to restore to.
	superuser(t, to.URL(), "CREATE ROLE icache_writer NOLOGIN")
	target := func(t *testing.T, name string) *stack {
		t.Helper()
		superuser(t, to.URL(), "CREATE DATABASE "+name)
		return newStack(t, to.DatabaseURL(name), servertest.Redis(t), movieRules)
	}
	restore := func(t *testing.T, s *stack, args ...string) {
		t.Helper()
		out, err := tool(t, to, "pg_restore", append(args, "--exit-on-error", "-d", s.postgresURL)...)
		require.NoError(t, err, out)
		require.Empty(t, out)
	}
	works := func(t *testing.T, s *stack) {
		t.Helper()
		succeed(t, "migrate", "status", "--event-trigger", "-c", s.config)
		before := s.value(t, "movie:3")
		s.exec(t, "UPDATE movies SET title = title || '!' WHERE id = 3")
		s.awaitBump(t, "movie:3", before)
	}
	whole := dump("whole")

	t.Run("whole", func(t *testing.T) {
		s := target(t, "whole")
		restore(t, s, whole)
		succeed(t, "migrate", "status", "--event-trigger", "-c", s.config)
		a := startAgent(t, s.config)
		works(t, s)
		s.awaitDrained(t)

		// The same again over the living database: its pages are of another time.
		s.exec(t, "UPDATE movies SET title = 'after the dump' WHERE id = 1")
		p := &page{s: s}
		s.awaitDrained(t)
		require.Equal(t, "after the dump", p.title(t, 1))
		restore(t, s, "--clean", "--if-exists", whole)
		a.terminate(t)
		a = startAgent(t, s.config)
		require.Eventually(t, func() bool { return p.title(t, 1) == "in the outbox" }, readyTimeout, 20*time.Millisecond, "what was cached is older than the database")
		works(t, s)
		a.terminate(t)
	})
	t.Run("without the rows of the outbox", func(t *testing.T) {
		s := target(t, "without_rows")
		restore(t, s, dump("without_rows", "--exclude-table-data=icache.outbox_*", "--exclude-table-data=icache.cursor"))
		a := startAgent(t, s.config)
		works(t, s)
		a.terminate(t)
	})
	t.Run("data only", func(t *testing.T) {
		s := target(t, "data_only")
		s.exec(t, movieSchema+"TRUNCATE movies CASCADE")
		succeed(t, "migrate", "up", "--event-trigger", "-c", s.config)
		a := startAgent(t, s.config)
		restore(t, s, dump("data_only", "--data-only", "--exclude-schema=icache"))
		s.awaitBump(t, "movie:1", 0)
		works(t, s)
		a.terminate(t)
	})
	t.Run("without the schema", func(t *testing.T) {
		s := target(t, "without_schema")
		out, err := tool(t, to, "pg_restore", "-d", s.postgresURL, dump("without_schema", "--exclude-schema=icache"))
		require.Error(t, err)
		require.Equal(t, strings.Count(out, "error:"), strings.Count(out, "Command was: CREATE TRIGGER icache_")+strings.Count(out, "Command was: CREATE EVENT TRIGGER icache_")+strings.Count(out, "Command was: ALTER EVENT TRIGGER icache_"), "errors of triggers, and nothing else: %s", out)
		succeed(t, "migrate", "up", "--event-trigger", "-c", s.config)
		a := startAgent(t, s.config)
		works(t, s)
		a.terminate(t)
	})
}
