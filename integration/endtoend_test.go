package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
)

const movieSchema = `
CREATE TABLE movies (id bigint PRIMARY KEY, title text NOT NULL, genre_id bigint, note text);
CREATE TABLE ratings (movie_id bigint REFERENCES movies ON DELETE CASCADE, user_id bigint, stars int, PRIMARY KEY (movie_id, user_id));
CREATE TABLE unrelated (id bigint PRIMARY KEY);
INSERT INTO movies VALUES (1, 'Alien', 7), (2, 'Brazil', 8), (3, 'Casablanca', NULL);
INSERT INTO ratings VALUES (1, 100, 5), (2, 100, 4);`

const movieRules = `
  - table: public.movies
    columns: [title]
    tokens: ["movies", "movie:{id}", "genre:{genre_id}"]
  - table: ratings
    tokens: ["movie:{movie_id}", "user:{user_id}:ratings"]
`

// page is what an application does: a fragment rendered from the database.
type page struct {
	s       *stack
	renders int
}

func (p *page) title(t *testing.T, id int) string {
	t.Helper()
	title, err := icache.Fetch(t.Context(), p.s.cache, "title", []string{"movies", "movie:1"}, func(ctx context.Context) (string, error) {
		p.renders++
		var title string
		err := p.s.db.QueryRow(ctx, "SELECT title FROM movies WHERE id = $1", id).Scan(&title)
		return title, err
	})
	require.NoError(t, err)
	return title
}

func TestRowChangedToPageFresh(t *testing.T) {
	t.Parallel()
	s := sharedStack(t, movieRules)
	s.exec(t, movieSchema)
	succeed(t, "migrate", "up", "-c", s.config)
	a := startAgent(t, s.config)

	p := &page{s: s}
	require.Equal(t, "Alien", p.title(t, 1))
	require.Equal(t, "Alien", p.title(t, 1))
	require.Equal(t, 1, p.renders, "the second time it comes from the cache")

	movie, other, genre := s.value(t, "movie:1"), s.value(t, "movie:2"), s.value(t, "genre:7")
	began := time.Now()
	s.exec(t, "UPDATE movies SET title = 'Aliens' WHERE id = 1")
	movie = s.awaitBump(t, "movie:1", movie)
	t.Logf("statement sent to bump seen: %s", time.Since(began))
	require.Greater(t, s.value(t, "genre:7"), genre)
	require.Equal(t, other, s.value(t, "movie:2"), "the row of another movie did not change")
	require.Equal(t, "Aliens", p.title(t, 1))
	require.Equal(t, 2, p.renders)

	// What does not matter to any token bumps none: the token that moves last proves the rest was seen.
	s.exec(t, "UPDATE movies SET title = title")
	s.exec(t, "UPDATE movies SET note = 'watched columns are title, id and genre_id'")
	s.exec(t, "INSERT INTO unrelated VALUES (1)")
	s.exec(t, "INSERT INTO ratings VALUES (3, 200, 1)")
	s.awaitBump(t, "user:200:ratings", 0)
	require.Equal(t, movie, s.value(t, "movie:1"))
	require.Equal(t, "Aliens", p.title(t, 1))
	require.Equal(t, 2, p.renders)

	// A rolled-back change is none; the cascade of a delete is one.
	tx, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "DELETE FROM movies WHERE id = 2")
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	ratings := s.value(t, "user:100:ratings")
	s.exec(t, "DELETE FROM movies WHERE id = 1")
	s.awaitBump(t, "user:100:ratings", ratings)
	s.awaitBump(t, "movie:1", movie)
	require.Equal(t, other, s.value(t, "movie:2"), "its deletion was rolled back")

	// TRUNCATE names no row: the groups move, and with them everything in them.
	users := s.value(t, "user:*")
	s.exec(t, "TRUNCATE ratings")
	s.awaitBump(t, "user:*", users)

	a.terminate(t)
}

func TestMigrateDownLeavesNothing(t *testing.T) {
	t.Parallel()
	s := sharedStack(t, movieRules)
	s.exec(t, movieSchema)
	const objects = `SELECT (SELECT count(*) FROM pg_class) + (SELECT count(*) FROM pg_proc) + (SELECT count(*) FROM pg_trigger)
		+ (SELECT count(*) FROM pg_namespace) + (SELECT count(*) FROM pg_type) + (SELECT count(*) FROM pg_event_trigger)`
	before := query[int64](t, s, objects)

	for range 2 { // both are idempotent
		succeed(t, "migrate", "up", "-c", s.config)
	}
	require.Greater(t, query[int64](t, s, objects), before)
	succeed(t, "migrate", "status", "-c", s.config)
	for range 2 {
		succeed(t, "migrate", "down", "-c", s.config)
	}
	require.Equal(t, before, query[int64](t, s, objects))
	s.exec(t, "UPDATE movies SET title = 'Writes need nothing of it'")
}

func TestCommandsOnTokens(t *testing.T) {
	t.Parallel()
	s := sharedStack(t, movieRules)
	succeed(t, "bump", "movie:1", "movie:2", "-c", s.config)
	require.NotZero(t, s.value(t, "movie:1"))
	require.Contains(t, succeed(t, "get", "movie:2", "movie:3", "-c", s.config), "movie:3\t-\n")
	before := s.value(t, "movie:2")
	succeed(t, "bump", "--all", "-c", s.config)
	require.Greater(t, s.value(t, "movie:2"), before)
	require.NotZero(t, s.value(t, icache.Generation))
}
