package demo

import (
	"context"
	"embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed data
var dataFS embed.FS

const (
	schemaName   = "icache_demo" // the films; data/schema.sql and data/icache.yaml say the same
	schemaRemark = "made by icache-agent demo; dropped when it ends"
)

var viewerNames = []string{"Ada", "Bruno", "Chen", "Dalia", "Emeka", "Freya"}

var errSchemaTaken = errors.New("schema " + schemaName + " exists and was not made by this demo; rename it, or give the demo another database")

// createDatabase makes the schema, loads the films, and leaves the ratings the
// same on every run. It refuses to touch a schema that it did not make.
func createDatabase(ctx context.Context, pool *pgxpool.Pool) error {
	ddl, err := fs.ReadFile(dataFS, "data/schema.sql")
	if err != nil {
		return err
	}
	films, err := loadFilms()
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := dropOwnSchema(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, string(ddl)); err != nil {
			return fmt.Errorf("create the tables: %w", err)
		}
		if err := films.copyTo(ctx, tx); err != nil {
			return fmt.Errorf("load the films: %w", err)
		}
		_, err := tx.Exec(ctx, "ANALYZE icache_demo.films, icache_demo.people, icache_demo.credits, icache_demo.ratings")
		return err
	})
}

// dropDatabase removes what createDatabase made.
func dropDatabase(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return dropOwnSchema(ctx, tx) })
}

// dropOwnSchema drops the schema of films if there is one and it carries the demo's remark.
func dropOwnSchema(ctx context.Context, tx pgx.Tx) error {
	var remark *string
	err := tx.QueryRow(ctx, `SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1`, schemaName).Scan(&remark)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for schema %s: %w", schemaName, err)
	}
	if remark == nil || *remark != schemaRemark {
		return errSchemaTaken
	}
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '10s'"); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SET LOCAL client_min_messages = warning"); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DROP SCHEMA "+schemaName+" CASCADE"); err != nil {
		return fmt.Errorf("drop schema %s: %w", schemaName, err)
	}
	return nil
}

// seed is what the database starts with.
type seed struct {
	films, people, credits, viewers, ratings [][]any
}

// loadFilms reads data/films.csv and invents viewers and their ratings, the same ones each time.
func loadFilms() (*seed, error) {
	f, err := dataFS.Open("data/films.csv")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("data/films.csv: %w", err)
	}
	s := &seed{}
	person := map[string]int{}
	credit := func(film int, role, names string) {
		for i, name := range strings.Split(names, ";") {
			id, known := person[name]
			if !known {
				id = len(person) + 1
				person[name] = id
				s.people = append(s.people, []any{id, name})
			}
			s.credits = append(s.credits, []any{film, id, role, i + 1})
		}
	}
	for i, name := range viewerNames {
		s.viewers = append(s.viewers, []any{i + 1, name})
	}
	rng := rand.New(rand.NewPCG(1895, 12))
	for i, r := range records[1:] {
		n := make([]int, 3) // id, year, runtime
		for j, text := range []string{r[0], r[2], r[3]} {
			if n[j], err = strconv.Atoi(text); err != nil {
				return nil, fmt.Errorf("data/films.csv: line %d: %w", i+2, err)
			}
		}
		s.films = append(s.films, []any{n[0], r[1], n[1], n[2], strings.Split(r[6], ";")})
		credit(n[0], "director", r[4])
		credit(n[0], "cast", r[5])
		liking := 3.2 + 1.6*rng.Float64() // a film's quality; viewers scatter around it
		for viewer := range viewerNames {
			if rng.Float64() < 0.35 {
				continue // has not seen it
			}
			stars := min(5, max(1, int(liking+rng.NormFloat64()*0.9+0.5)))
			s.ratings = append(s.ratings, []any{viewer + 1, n[0], stars})
		}
	}
	return s, nil
}

func (s *seed) copyTo(ctx context.Context, tx pgx.Tx) error {
	for _, t := range []struct {
		table   string
		columns []string
		rows    [][]any
	}{
		{"films", []string{"id", "title", "year", "runtime", "genres"}, s.films},
		{"people", []string{"id", "name"}, s.people},
		{"credits", []string{"film_id", "person_id", "role", "position"}, s.credits},
		{"viewers", []string{"id", "name"}, s.viewers},
		{"ratings", []string{"viewer_id", "film_id", "stars"}, s.ratings},
	} {
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{schemaName, t.table}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
			return fmt.Errorf("%s: %w", t.table, err)
		}
	}
	return nil
}

// database answers the page's questions. Every query names its tables with
// their schema, so that a search_path of the user's cannot redirect it.
type database struct{ pool *pgxpool.Pool }

type film struct {
	ID        int
	Title     string
	Year      int
	Runtime   int
	Genres    []string
	Directors []string
	Cast      []string
	Average   float64
	Ratings   int
	Stars     int // the viewer's own rating; 0: none
}

type viewer struct {
	ID   int
	Name string
}

func (d database) viewers(ctx context.Context) ([]viewer, error) {
	return collect[viewer](ctx, d.pool, `SELECT id, name FROM icache_demo.viewers ORDER BY id`)
}

func (d database) viewerName(ctx context.Context, id int) (string, error) {
	var name string
	err := d.pool.QueryRow(ctx, `SELECT name FROM icache_demo.viewers WHERE id = $1`, id).Scan(&name)
	return name, err
}

const filmColumns = `f.id, f.title, f.year, f.runtime, f.genres,
	ARRAY(SELECT p.name FROM icache_demo.credits c JOIN icache_demo.people p ON p.id = c.person_id
	      WHERE c.film_id = f.id AND c.role = 'director' ORDER BY c.position) AS directors,
	ARRAY(SELECT p.name FROM icache_demo.credits c JOIN icache_demo.people p ON p.id = c.person_id
	      WHERE c.film_id = f.id AND c.role = 'cast' ORDER BY c.position) AS "cast",
	coalesce((SELECT avg(stars) FROM icache_demo.ratings r WHERE r.film_id = f.id), 0)::float8 AS average,
	(SELECT count(*) FROM icache_demo.ratings r WHERE r.film_id = f.id)::int AS ratings`

// top returns the films with the best ratings first.
func (d database) top(ctx context.Context) ([]film, error) {
	return collect[film](ctx, d.pool, `SELECT `+filmColumns+`, 0 AS stars FROM icache_demo.films f ORDER BY average DESC, ratings DESC, title`)
}

// rated returns the films that a viewer has rated, the viewer's favourites first.
func (d database) rated(ctx context.Context, viewer int) ([]film, error) {
	return collect[film](ctx, d.pool, `SELECT `+filmColumns+`, m.stars::int AS stars
		FROM icache_demo.ratings m JOIN icache_demo.films f ON f.id = m.film_id
		WHERE m.viewer_id = $1 ORDER BY m.stars DESC, f.title`, viewer)
}

// film returns one film, or pgx.ErrNoRows.
func (d database) film(ctx context.Context, id int) (film, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+filmColumns+`, 0 AS stars FROM icache_demo.films f WHERE f.id = $1`, id)
	if err != nil {
		return film{}, fmt.Errorf("film %d: %w", id, err)
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[film])
}

// nineties returns the first films of the 1990s, by year.
func (d database) nineties(ctx context.Context) ([]int, error) {
	rows, err := d.pool.Query(ctx, `SELECT id FROM icache_demo.films WHERE year BETWEEN 1990 AND 1999 ORDER BY year, title LIMIT 8`)
	if err != nil {
		return nil, fmt.Errorf("films of the 1990s: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// turn gives each viewer the opposite opinion of a film.
func (d database) turn(ctx context.Context, film int) error {
	if _, err := d.pool.Exec(ctx, `UPDATE icache_demo.ratings SET stars = 6 - stars WHERE film_id = $1`, film); err != nil {
		return fmt.Errorf("turn the ratings of film %d: %w", film, err)
	}
	return nil
}

type vote struct {
	Viewer string
	Stars  int
}

// votes returns who gave a film how many stars.
func (d database) votes(ctx context.Context, film int) ([]vote, error) {
	return collect[vote](ctx, d.pool, `SELECT v.name, r.stars::int FROM icache_demo.ratings r
		JOIN icache_demo.viewers v ON v.id = r.viewer_id WHERE r.film_id = $1 ORDER BY v.name`, film)
}

// rate stores a viewer's stars for a film.
func (d database) rate(ctx context.Context, viewer, film, stars int) error {
	_, err := d.pool.Exec(ctx, `INSERT INTO icache_demo.ratings (viewer_id, film_id, stars) VALUES ($1, $2, $3)
		ON CONFLICT (viewer_id, film_id) DO UPDATE SET stars = excluded.stars`, viewer, film, stars)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == foreignKeyViolation {
		return pgx.ErrNoRows // no such film or viewer
	}
	if err != nil {
		return fmt.Errorf("rate film %d: %w", film, err)
	}
	return nil
}

const foreignKeyViolation = "23503"

// stars returns a viewer's rating of a film, 0 if there is none.
func (d database) stars(ctx context.Context, viewer, film int) (int, error) {
	var n int
	err := d.pool.QueryRow(ctx, `SELECT coalesce((SELECT stars FROM icache_demo.ratings WHERE viewer_id = $1 AND film_id = $2), 0)`,
		viewer, film).Scan(&n)
	return n, err
}

func collect[T any](ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) ([]T, error) {
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}
