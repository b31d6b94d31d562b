package integration

import (
	"context"
	"database/sql"
	"errors"
	"io"
	neturl "net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	_ "github.com/amacneil/dbmate/v2/pkg/driver/postgres"
	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	_ "github.com/golang-migrate/migrate/v4/source/file"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	tern "github.com/jackc/tern/v2/migrate"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"
)

// migrationTool runs all migrations of a directory, or undoes the last one.
type migrationTool struct {
	format string
	first  map[string]string // files of a first migration, with the table films
	second string            // what the first file of the next one has to be called, as a pattern
	up     func(t *testing.T, url, dir string)
	down   func(t *testing.T, url, dir string) // nil if the tool goes one way only
}

const createFilms = "CREATE TABLE films (id int PRIMARY KEY, title text);\n"

var migrationTools = []migrationTool{
	{
		format: "goose",
		first:  map[string]string{"00007_films.sql": "-- +goose Up\n" + createFilms + "-- +goose Down\nDROP TABLE films;\n"},
		second: `^00008_icache\.sql$`,
		up: func(t *testing.T, url, dir string) {
			withGoose(t, url, dir, func(ctx context.Context, p *goose.Provider) error { _, err := p.Up(ctx); return err })
		},
		down: func(t *testing.T, url, dir string) {
			withGoose(t, url, dir, func(ctx context.Context, p *goose.Provider) error { _, err := p.Down(ctx); return err })
		},
	},
	{
		format: "golang-migrate",
		first:  map[string]string{"20200102030405_films.up.sql": createFilms, "20200102030405_films.down.sql": "DROP TABLE films;\n"},
		second: `^20\d{12}_icache\.up\.sql$`,
		up: func(t *testing.T, url, dir string) {
			withGolangMigrate(t, url, dir, func(m *migrate.Migrate) error { return m.Up() })
		},
		down: func(t *testing.T, url, dir string) {
			withGolangMigrate(t, url, dir, func(m *migrate.Migrate) error { return m.Steps(-1) })
		},
	},
	{
		format: "tern",
		first:  map[string]string{"001_films.sql": createFilms + "---- create above / drop below ----\nDROP TABLE films;\n"},
		second: `^002_icache\.sql$`,
		up: func(t *testing.T, url, dir string) {
			withTern(t, url, dir, func(ctx context.Context, m *tern.Migrator) error { return m.Migrate(ctx) })
		},
		down: func(t *testing.T, url, dir string) {
			withTern(t, url, dir, func(ctx context.Context, m *tern.Migrator) error { return m.MigrateTo(ctx, int32(len(m.Migrations))-1) })
		},
	},
	{
		format: "dbmate",
		first:  map[string]string{"20200102030405_films.sql": "-- migrate:up\n" + createFilms + "-- migrate:down\nDROP TABLE films;\n"},
		second: `^20\d{12}_icache\.sql$`,
		up:     func(t *testing.T, url, dir string) { withDbmate(t, url, dir, (*dbmate.DB).Migrate) },
		down:   func(t *testing.T, url, dir string) { withDbmate(t, url, dir, (*dbmate.DB).Rollback) },
	},
	{
		format: "atlas",
		first:  map[string]string{"20200102030405_films.sql": createFilms},
		second: `^20\d{12}_icache\.sql$`,
		up:     withAtlas,
	},
}

func withDbmate(t *testing.T, url, dir string, run func(*dbmate.DB) error) {
	t.Helper()
	u, err := neturl.Parse(url)
	require.NoError(t, err)
	q := u.Query()
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	db := dbmate.New(u)
	db.MigrationsDir, db.AutoDumpSchema, db.Strict, db.Log = []string{dir}, false, true, io.Discard
	require.NoError(t, run(db))
}

func withGoose(t *testing.T, url, dir string, run func(context.Context, *goose.Provider) error) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS(dir))
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), p))
}

func withGolangMigrate(t *testing.T, url, dir string, run func(*migrate.Migrate) error) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	driver, err := migratepgx.WithInstance(db, &migratepgx.Config{})
	require.NoError(t, err)
	m, err := migrate.NewWithDatabaseInstance("file://"+dir, "postgres", driver)
	require.NoError(t, err)
	defer func() {
		sourceErr, databaseErr := m.Close()
		require.NoError(t, errors.Join(sourceErr, databaseErr))
	}()
	require.NoError(t, run(m))
}

func withTern(t *testing.T, url, dir string, run func(context.Context, *tern.Migrator) error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	m, err := tern.NewMigrator(t.Context(), conn, "public.schema_version")
	require.NoError(t, err)
	require.NoError(t, m.LoadMigrations(os.DirFS(dir)))
	require.NoError(t, run(t.Context(), m))
}

// remains counts what an installation leaves in a database, apart from roles.
const remains = `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'icache')
	+ (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) + (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%icache%' AND oid >= 16384)`

// TestMigrationTools: the tools accept what is exported, up and down, after a
// migration that is there already.
func TestMigrationTools(t *testing.T) {
	t.Parallel()
	for _, tool := range migrationTools {
		t.Run(tool.format, func(t *testing.T) {
			t.Parallel()
			s := sharedStack(t, `  - {table: films, tokens: ["films", "film:{id}"], when: "title <> '{{'"}`)
			dir := t.TempDir()
			for name, content := range tool.first {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
			}
			tool.up(t, s.postgresURL, dir)

			written := strings.Fields(succeed(t, "migrate", "export", "--format", tool.format, "--dir", dir, "--event-trigger", "-c", s.config))
			require.NotEmpty(t, written)
			require.Regexp(t, tool.second, filepath.Base(written[0]))
			require.Zero(t, query[int](t, s, remains), "export changes nothing")
			tool.up(t, s.postgresURL, dir)
			succeed(t, "migrate", "status", "--event-trigger", "-c", s.config)

			a := startAgent(t, s.config)
			s.exec(t, "INSERT INTO films VALUES (1, 'Alien')")
			s.awaitBump(t, "film:1", 0)
			a.terminate(t)

			if tool.down == nil {
				return
			}
			tool.down(t, s.postgresURL, dir)
			require.Zero(t, query[int](t, s, remains))
			require.Equal(t, 1, query[int](t, s, "SELECT count(*) FROM films"), "the first migration stays")
			tool.up(t, s.postgresURL, dir)
			succeed(t, "migrate", "status", "--event-trigger", "-c", s.config)
		})
	}
}

var postgresURLLine = regexp.MustCompile(`(?m)^  url: "postgres.*$`)

// TestInitToRun goes the whole way from a database to tokens: init, check,
// migrate export, goose up, run.
func TestInitToRun(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string]map[string][]string{
		"film_rental": {
			`UPDATE film SET title = 'ALIEN' WHERE film_id = 1`:    {"film", "film:1", "language:1"},
			`UPDATE payment SET amount = 3 WHERE customer_id = 1`:  {"payment", "customer:1", "rental:1"},
			`DELETE FROM film_category WHERE film_id = 2`:          {"film:2", "category:2"},
			`INSERT INTO city (city, country_id) VALUES ('Oz', 1)`: {"city", "country:1"},
		},
		"shop": {
			`UPDATE "Order Details" SET "Quantity" = 1 WHERE "ProductID" = 2`:     {"Order Details", "Order Details:10248:2", "Orders:10248", "Products:2"},
			`UPDATE "Orders" SET "CustomerID" = 'ANATR'`:                          {"Orders:10248", "Customers:ALFKI", "Customers:ANATR"},
			`UPDATE "Employees" SET "ReportsTo" = NULL WHERE "EmployeeID" = 1`:    {"Employees:1", "Employees:2"},
			`INSERT INTO "Region" VALUES (9, 'North')`:                            {"Region", "Region:9"},
			`UPDATE "Categories" SET "CategoryName" = 'x' WHERE "CategoryID" = 2`: {"Categories", "Categories:2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sharedStack(t, "  []")
			ddl, err := os.ReadFile(filepath.Join("..", "internal", "introspect", "testdata", name+".sql"))
			require.NoError(t, err)
			s.exec(t, string(ddl))

			dir := t.TempDir()
			s.config = filepath.Join(dir, "icache.yaml")
			succeed(t, "init", "--postgres-url", s.postgresURL, "--redis-url", s.redisURL, "-o", s.config)
			// What init cannot know: the password, which it never writes, and what keeps this test apart.
			text, err := os.ReadFile(s.config)
			require.NoError(t, err)
			config := postgresURLLine.ReplaceAllLiteralString(string(text), `  url: "`+s.postgresURL+`"`)
			config = strings.Replace(config, "\nredis:\n", "\nhttp: {listen: \"127.0.0.1:0\"}\nlog: {format: json}\nredis:\n  token_key: \""+s.tokenKey+"\"\n", 1)
			require.NoError(t, os.WriteFile(s.config, []byte(config), 0o600))
			succeed(t, "check", "-c", s.config)

			migrations := filepath.Join(dir, "migrations")
			succeed(t, "migrate", "export", "--format", "goose", "--dir", migrations, "-c", s.config)
			goose := migrationTools[0]
			goose.up(t, s.postgresURL, migrations)
			succeed(t, "migrate", "status", "-c", s.config)

			a := startAgent(t, s.config)
			for statement, tokens := range changes {
				before := make(map[string]uint64)
				for _, token := range tokens {
					before[token] = s.value(t, token)
				}
				s.exec(t, statement)
				for _, token := range tokens {
					s.awaitBump(t, token, before[token])
				}
			}
			a.terminate(t)
			goose.down(t, s.postgresURL, migrations)
			require.Zero(t, query[int](t, s, "SELECT count(*) FROM pg_namespace WHERE nspname = 'icache'"))
			require.Zero(t, query[int](t, s, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'icache%'"))
		})
	}
}
