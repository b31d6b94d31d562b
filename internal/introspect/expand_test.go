package introspect

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
)

const patternSchema = `
CREATE TABLE genres (id int PRIMARY KEY, name text, slug text UNIQUE);
CREATE TABLE movies (id int PRIMARY KEY, genre_id int REFERENCES genres, parent int REFERENCES movies, slug text REFERENCES genres (slug));
CREATE TABLE castings (movie_id int REFERENCES movies, actor int, role text, PRIMARY KEY (movie_id, actor));
CREATE TABLE billings (m int, a int, FOREIGN KEY (a, m) REFERENCES castings (actor, movie_id));
CREATE TABLE "Odd {Name}" ("Key" uuid PRIMARY KEY);
CREATE TABLE notes (body text);
CREATE TABLE log_2026 (id int PRIMARY KEY);
CREATE TABLE log_2027 (id int PRIMARY KEY);
CREATE TABLE events (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE schema_migrations (version text PRIMARY KEY);
CREATE VIEW shown AS SELECT * FROM movies;
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int PRIMARY KEY, movie_id int REFERENCES movies);
CREATE TABLE shop.movies (id int PRIMARY KEY);
CREATE ROLE @reader LOGIN PASSWORD 'x';`

func TestExpand(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	reader := servertest.Prefix(t)
	_, err = conn.Exec(t.Context(), strings.ReplaceAll(patternSchema, "@reader", pgx.Identifier{reader}.Sanitize()))
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = conn.Exec(context.Background(), "DROP ROLE "+pgx.Identifier{reader}.Sanitize()) })

	file := filepath.Join(t.TempDir(), "icache.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
tables:
  - table: "public.*"
    exclude: ["log_*", notes, nothing]
    on: [insert, delete]
    max_keys: 7
    settle: 3s
  - table: genres
    tokens: ["g:{id}"]
  - table: public.log_2027
    tokens: [log]
  - table: shop.*
  - table: "*s"
  - table: empty.*
`), 0o600))
	cfg, warnings, err := config.Load(config.Options{File: file, Environ: []string{}})
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Len(t, cfg.Rules(), 2)

	expand := func() map[string][]string {
		t.Helper()
		rules, notes, err := Expand(t.Context(), conn, cfg)
		require.NoError(t, err)
		require.Equal(t, []string{
			file + ":4:31: no table matches public.nothing, which is excluded",
			file + ":14:12: no table matches empty.*",
		}, notes)
		_, err = mapping.Compile(rules)
		require.NoError(t, err)
		var order []string
		got := map[string][]string{}
		for _, r := range rules {
			order = append(order, r.Table.String())
			got[r.Table.String()] = r.Tokens
		}
		require.Equal(t, []string{
			"public.genres", "public.log_2027", // as they are written
			`public."Odd {Name}"`, "public.billings", "public.castings", "public.events", "public.movies",
			"shop.movies", "shop.orders", "public.notes",
		}, order)
		odd := rules[2]
		require.Equal(t, []mapping.Op{mapping.Insert, mapping.Delete}, odd.On)
		require.Equal(t, 7, odd.MaxKeys)
		require.Equal(t, 3*time.Second, odd.Settle)
		require.Equal(t, mapping.Position{File: file, Line: 3, Column: 13}, odd.At("table"))
		require.Equal(t, odd.At("table"), odd.At("tokens[1]"))
		return got
	}
	got := expand()
	require.Equal(t, map[string][]string{
		"public.genres":       {"g:{id}"},
		"public.log_2027":     {"log"},
		`public."Odd {Name}"`: {"Odd {{Name}}", "Odd {{Name}}:{Key}"},
		"public.billings":     {"billings", "castings:{m}:{a}"},
		"public.castings":     {"castings", "castings:{movie_id}:{actor}", "movies:{movie_id}"},
		"public.events":       {"events", "events:{id}:{at}"},
		"public.movies":       {"movies", "movies:{id}", "genres:{genre_id}", "movies:{parent}", "genres:{slug->public.genres.id}"},
		"public.notes":        {"notes"},
		"shop.movies":         {"movies", "movies:{id}"},
		"shop.orders":         {"orders", "orders:{id}", "movies:{movie_id}"},
	}, got)

	// A role without rights on the tables, as the agent's, finds the same.
	_, err = conn.Exec(t.Context(), "SET ROLE "+pgx.Identifier{reader}.Sanitize())
	require.NoError(t, err)
	require.Equal(t, got, expand())
}
