//go:build unix

package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestTablesByPattern(t *testing.T) {
	t.Parallel()
	const rules = `
  - table: "public.*"
    exclude: [log]
  - table: genres
    tokens: [genres, "genre:{id}"]`
	w := newWorld(t, movies+"CREATE TABLE log (id int PRIMARY KEY);", rules)
	w.config = w.write(t, "icache.yaml", w.yaml(servertest.Redis(t), freeAddress(t), rules))

	require.Contains(t, w.ok(t, "check"), "public.*: a rule for each table without one of its own, known when connected")
	r := w.run(t, "check", "--table", "movies", "--new", `{"id": 1}`)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "table public.movies has the rule of public.*, at "+w.config+":5:13, which takes a database to know")

	w.ok(t, "migrate", "up")
	w.ok(t, "migrate", "status")
	require.Contains(t, w.ok(t, "explain", "UPDATE movies SET genre_id = 8 WHERE id = 42"), "movies:42")

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var log output
	go func() { done <- Run(ctx, []string{"run", "-c", w.config}, []string{}, &log, &log) }()
	defer func() {
		cancel()
		require.Equal(t, exitOK, <-done, "%s", log.String())
	}()
	eventually := func(what string, cond func() bool) {
		t.Helper()
		require.Eventually(t, cond, 40*time.Second, 50*time.Millisecond, what)
	}
	tables := func() []string {
		var names []string
		for _, s := range decode[agent.Status](t, w.ok(t, "status", "--json")).Tables {
			names = append(names, s.Table)
		}
		slices.Sort(names)
		return names
	}
	token := func(name string) bool {
		return decode[map[string]*uint64](t, w.ok(t, "get", name, "--json"))[name] != nil
	}
	eventually("ready", func() bool { return w.run(t, "healthcheck").code == exitOK })
	require.Equal(t, []string{"public.genres", "public.movies"}, tables())
	w.exec(t, "UPDATE movies SET title = 'C' WHERE id = 42")
	eventually("bumped", func() bool { return token("movies:42") && token("genres:7") })

	// A table that is added is due for a migration, and then watched.
	w.exec(t, "CREATE TABLE actors (id int PRIMARY KEY, movie_id int REFERENCES movies)")
	r = w.run(t, "migrate", "status")
	require.Equal(t, exitProblem, r.code)
	require.Contains(t, r.stdout, "public.actors")
	w.ok(t, "migrate", "up")
	w.exec(t, "INSERT INTO actors VALUES (1, 43)")
	eventually("discovered", func() bool { return slices.Contains(tables(), "public.actors") })
	eventually("the group of what came before the rule", func() bool { return token("actors:*") })
	eventually("the token of what came after it", func() bool {
		w.exec(t, "UPDATE actors SET movie_id = 85 - movie_id")
		return token("actors:1")
	})
}

// A pattern takes a connection; until there is one, the agent waits.
func TestAPatternWaitsForPostgres(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	w := &world{url: server.URL(), prefix: servertest.Prefix(t), dir: t.TempDir()}
	w.config = w.write(t, "icache.yaml", w.yaml(servertest.Redis(t), freeAddress(t), "\n  - table: public.*"))
	r := w.run(t, "migrate", "up")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, w.config+":5:12: no table matches public.*")
	require.NoError(t, server.Stop())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var log output
	go func() { done <- Run(ctx, []string{"run", "-c", w.config}, []string{}, &log, &log) }()
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("cannot find the tables")) }, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, server.Start(t.Context()))
	require.Eventually(t, func() bool { return w.run(t, "healthcheck").code == exitOK }, 40*time.Second, 50*time.Millisecond)
	cancel()
	require.Equal(t, exitOK, <-done, log.String())
}

// TestAReloadBringsPatterns to an agent that had none, and is tried again if
// Postgres is away.
func TestAReloadBringsPatterns(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	w := &world{url: server.URL(), prefix: servertest.Prefix(t), dir: t.TempDir()}
	exec := func(sql string) { // the server restarts meanwhile
		t.Helper()
		conn, err := pgx.Connect(t.Context(), server.URL())
		require.NoError(t, err)
		defer conn.Close(context.WithoutCancel(t.Context()))
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	redis, address := servertest.Redis(t), freeAddress(t)
	w.config = w.write(t, "icache.yaml", w.yaml(redis, address, "\n  []"))
	exec("CREATE TABLE genres (id int PRIMARY KEY)")
	w.ok(t, "migrate", "up")

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var log output
	go func() { done <- Run(ctx, []string{"run", "--watch", "-c", w.config}, []string{}, &log, &log) }()
	defer func() {
		cancel()
		require.Equal(t, exitOK, <-done, "%s", log.String())
	}()
	eventually := func(what string, cond func() bool) {
		t.Helper()
		require.Eventually(t, cond, time.Minute, 50*time.Millisecond, what)
	}
	watched := func(table string) bool {
		return slices.ContainsFunc(decode[agent.Status](t, w.ok(t, "status", "--json")).Tables, func(s agent.TableStatus) bool { return s.Table == table })
	}
	eventually("ready", func() bool { return w.run(t, "healthcheck").code == exitOK })

	require.NoError(t, server.Stop())
	w.write(t, "icache.yaml", w.yaml(redis, address, "\n  - table: public.*"))
	eventually("not reloaded", func() bool { return strings.Contains(log.String(), "the config was not reloaded") })
	require.NoError(t, server.Start(t.Context()))
	eventually("tried again", func() bool { return watched("public.genres") })

	exec("CREATE TABLE actors (id int PRIMARY KEY)")
	w.ok(t, "migrate", "up")
	eventually("discovered", func() bool { return watched("public.actors") })
}
