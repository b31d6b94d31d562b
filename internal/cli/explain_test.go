package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// outboxRows counts what anybody but explain can see.
const outboxRows = "SELECT count(*) FROM icache.outbox"

func (w *world) count(t *testing.T, sql string) (n int) {
	t.Helper()
	require.NoError(t, w.db.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

func (s statementOut) tokens() []string {
	list := []string{}
	for _, t := range s.Tokens {
		list = append(list, t.Token)
	}
	return list
}

func TestExplain(t *testing.T) {
	t.Parallel()
	const rules = movieRules + `
  - table: genres
    tokens: ["genres", "genre:{id}"]
  - table: events
    tokens: ["events", "event:{id}"]`
	w := newWorld(t, movies+`
		CREATE TABLE events (id int, day int) PARTITION BY LIST (day);
		CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
		CREATE TABLE unwatched (id int);
		CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE genres SET name = 'late' WHERE id = 8; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON unwatched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();`, rules)
	w.ok(t, "migrate", "up")
	w.ok(t, "bump", "movie:42", "movies")

	file := w.write(t, "a.sql", "-- first\nUPDATE movies SET genre_id = 8 WHERE id = 42;\nDELETE FROM movies WHERE id = 43; SELECT 1;")
	out := decode[explainOut](t, w.ok(t, "explain", "--json", "--file", file,
		"UPDATE movies SET title = title", "TRUNCATE movies; INSERT INTO events VALUES (5, 1)", "INSERT INTO unwatched VALUES (1)",
		"WITH a AS (DELETE FROM movies), b AS (UPDATE genres SET name = 'x' WHERE id = 7) SELECT 1"))
	require.True(t, out.RolledBack)
	require.Equal(t, "ok", out.Redis)
	require.Len(t, out.Statements, 9)

	first := out.Statements[0]
	require.Equal(t, "UPDATE movies SET genre_id = 8 WHERE id = 42", first.SQL)
	require.Equal(t, "UPDATE 1", first.Tag)
	require.Equal(t, "public.movies", first.Changes[0].Table)
	require.Equal(t, "update", first.Changes[0].Op)
	require.JSONEq(t, `[{"id": "42", "genre_id": "7"}, {"id": "42", "genre_id": "8"}]`, string(first.Changes[0].Keys))
	exists := map[string]bool{}
	for _, token := range first.Tokens {
		exists[token.Token] = *token.Exists
	}
	require.Equal(t, map[string]bool{"movies": true, "movie:42": true, "genre:7": false, "genre:8": false}, exists)

	require.ElementsMatch(t, []string{"movies", "movie:43", "genre:7"}, out.Statements[1].tokens())
	require.Empty(t, out.Statements[2].Changes)
	require.Empty(t, out.Statements[3].Changes, "nothing has changed")
	require.ElementsMatch(t, []string{"movies", "movie:*", "genre:*"}, out.Statements[4].tokens())
	require.Equal(t, "public.events", out.Statements[5].Changes[0].Table)
	require.ElementsMatch(t, []string{"events", "event:5"}, out.Statements[5].tokens())
	require.Empty(t, out.Statements[6].Changes)
	require.Equal(t, []string{"genres", "genre:7"}, out.Statements[7].tokens())
	require.Empty(t, out.Statements[8].Tag)
	require.Equal(t, []string{"genres", "genre:8"}, out.Statements[8].tokens(), "deferred to the commit")

	text := w.ok(t, "explain", "DELETE FROM movies WHERE id = 43", "TRUNCATE movies", "SELECT 1")
	for _, want := range []string{"DELETE 1", "public.movies delete [{", "movies ", "in redis", "absent", "3 tokens, 1 in redis", "keys unknown", "no rule fired", "rolled back"} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "\x1b")

	require.Zero(t, w.count(t, outboxRows))
	require.Equal(t, 2, w.count(t, "SELECT count(*) FROM movies"))
	require.Equal(t, 7, w.count(t, "SELECT genre_id FROM movies WHERE id = 42"))
}

// TestExplainFollowsForeignKeys: as they are at the end, like the agent.
func TestExplainFollowsForeignKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies+"CREATE TABLE ratings (movie_id int REFERENCES movies, stars int)", `
  - table: ratings
    tokens: ["genre:{movie_id->movies.genre_id}"]`)
	w.ok(t, "migrate", "up")
	out := decode[explainOut](t, w.ok(t, "explain", "--json",
		"INSERT INTO ratings VALUES (42, 5); INSERT INTO ratings VALUES (43, 5); UPDATE movies SET genre_id = 8 WHERE id = 43"))
	require.Equal(t, []string{"genre:7"}, out.Statements[0].tokens())
	require.Equal(t, []string{"genre:8"}, out.Statements[1].tokens())
}

func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	const change = "UPDATE movies SET title = 'changed'"
	w.exec(t, "CREATE PROCEDURE sneaky() LANGUAGE plpgsql AS $$ BEGIN "+change+"; COMMIT; END $$")

	r := w.run(t, "explain", change)
	require.Equal(t, exitProblem, r.code)
	require.Contains(t, r.stderr, "migrate up")

	w.ok(t, "migrate", "up")
	for _, sql := range []string{
		"COMMIT", change + "; COMMIT", "end", "ROLLBACK; " + change, "BEGIN", "PREPARE TRANSACTION 'x'", "COPY movies FROM STDIN", `\q`, "SELECT 'open", "", " ; ",
	} {
		r := w.run(t, "explain", sql)
		require.Equal(t, exitUsage, r.code, "%s: %s", sql, r.stderr)
		require.Empty(t, r.stdout)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"))
	}
	require.Equal(t, exitUsage, w.run(t, "explain").code)
	require.Equal(t, exitUsage, w.run(t, "explain", "-f", "not-there.sql").code)
	for _, sql := range []string{"CALL sneaky()", "DO $$ BEGIN " + change + "; COMMIT; END $$", "VACUUM movies", "UPDATE moviez SET id = 1", "SELECT $1", "SELECT 1/0"} {
		r := w.run(t, "explain", change, sql, change)
		require.Equal(t, exitFailed, r.code, "%s: %s%s", sql, r.stdout, r.stderr)
		require.Contains(t, r.stderr, "rolled back")
		require.Contains(t, r.stdout, "UPDATE 2", "what came before is told")
		require.Equal(t, 1, strings.Count(r.stderr, "\n"))
	}
	require.Zero(t, w.count(t, "SELECT count(*) FROM movies WHERE title = 'changed'"))
	require.Zero(t, w.count(t, outboxRows))

	w.exec(t, `ALTER TABLE movies DISABLE TRIGGER "`+triggerName(t, w)+`"`)
	r = w.run(t, "explain", change)
	require.Equal(t, exitProblem, r.code, r.stderr)
	require.Contains(t, r.stderr, "public.movies are disabled")
	w.ok(t, "migrate", "up")
	w.exec(t, "SELECT setval('icache.overflow', 1)")
	r = w.run(t, "explain", change)
	require.Equal(t, exitProblem, r.code, r.stderr)
	require.Contains(t, r.stderr, "size limit")
}

func triggerName(t *testing.T, w *world) (name string) {
	t.Helper()
	require.NoError(t, w.db.QueryRow(t.Context(),
		"SELECT tgname FROM pg_trigger WHERE tgrelid = 'movies'::regclass AND NOT tgisinternal ORDER BY 1 LIMIT 1").Scan(&name))
	return name
}

// TestExplainWithoutRedis: the rest is still worth reading.
func TestExplainWithoutRedis(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	w.ok(t, "migrate", "up")
	for name, redis := range map[string]string{"unreachable": "redis://:" + secret + "@127.0.0.1:1/0", "not configured": ""} {
		config := w.write(t, "other.yaml", w.yaml(redis, "", movieRules))
		r := agentCLI(t, "explain", "DELETE FROM movies WHERE id = 42", "-c", config)
		require.Equal(t, exitOK, r.code, "%s: %s", name, r.stderr)
		require.Contains(t, r.stdout, "    movie:42\n")
		require.Contains(t, r.stderr, "note: redis: not asked")
	}
}

// TestExplainRollsBack: when it is interrupted, what it holds is let go of, and
// the doorbell has not rung.
func TestExplainRollsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	w.ok(t, "migrate", "up")
	// Somebody sleeps: the trigger rings.
	w.exec(t, "SELECT pg_advisory_lock(k) FROM (SELECT (regexp_match(prosrc, 'lock_shared\\((-?\\d+)\\)'))[1]::bigint AS k FROM pg_proc WHERE proname = 'record') AS p")
	var channel string
	require.NoError(t, w.db.QueryRow(t.Context(),
		"SELECT (regexp_match(prosrc, 'pg_notify\\(''([^'']+)'''))[1] FROM pg_proc WHERE proname = 'record'").Scan(&channel))
	w.exec(t, "LISTEN "+pgx.Identifier{channel}.Sanitize())
	notifications := func() (n int) {
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_, err := w.db.WaitForNotification(ctx)
			cancel()
			if err != nil {
				return n
			}
			n++
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, []string{"explain", "-c", w.config, "UPDATE movies SET title = 'x'; SELECT pg_sleep(60)"}, []string{}, &stdout, &stderr)
	}()
	other, err := pgx.Connect(t.Context(), w.url)
	require.NoError(t, err)
	defer other.Close(t.Context())
	sleeping := func() (n int) {
		require.NoError(t, other.QueryRow(t.Context(),
			"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'icache-agent explain' AND query LIKE '%pg_sleep%'").Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return sleeping() == 1 }, 20*time.Second, 10*time.Millisecond)
	start := time.Now()
	cancel()
	require.Equal(t, exitFailed, <-done, "%s", &stderr)
	require.Less(t, time.Since(start), 10*time.Second)
	require.Eventually(t, func() bool { return sleeping() == 0 }, 20*time.Second, 10*time.Millisecond)
	_, err = other.Exec(t.Context(), "SET lock_timeout = '5s'; SELECT * FROM movies FOR UPDATE")
	require.NoError(t, err)

	w.ok(t, "explain", "UPDATE movies SET title = 'x'")
	w.exec(t, "SELECT 1") // notifications would come with the answer
	require.Zero(t, notifications())
	_, err = other.Exec(t.Context(), "UPDATE movies SET title = 'y'")
	require.NoError(t, err)
	w.exec(t, "SELECT 1")
	require.Equal(t, 1, notifications(), "the test would notice")
}

// TestExplainTimeouts: explain neither queues for long nor runs for long.
func TestExplainTimeouts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	w.ok(t, "migrate", "up")
	r := w.run(t, "explain", "--timeout", "100ms", "SELECT pg_sleep(60)")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "statement timeout")
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), "UPDATE movies SET title = 'x'")
	require.NoError(t, err)
	r = w.run(t, "explain", "UPDATE movies SET title = 'y'")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "lock timeout")
}

// TestExplainPlace: a statement that is refused is named by file and line.
func TestExplainPlace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.sql")
	require.NoError(t, os.WriteFile(path, []byte("SELECT 1;\n\nCOMMIT;"), 0o600))
	r := agentCLI(t, "explain", "-f", path)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, path+":3: ")
}
