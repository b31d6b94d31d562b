package introspect

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
)

func TestMain(m *testing.M) { servertest.Main(m) }

var update = flag.Bool("update", false, "write the expected configs in testdata")

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// database makes a database with the given SQL.
func database(t *testing.T, sql string) *pgx.Conn {
	t.Helper()
	conn := connect(t, servertest.Postgres(t))
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
	return conn
}

func read(t *testing.T, conn *pgx.Conn, opts Options) *Database {
	t.Helper()
	opts.Own = "icache"
	db, err := Read(t.Context(), conn, opts)
	require.NoError(t, err)
	return db
}

// rules loads a starter config, which must be right, and returns the tokens by table.
func rules(t *testing.T, db *Database) map[string][]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "icache.yaml")
	text := db.Starter(Settings{PostgresURL: "postgres://me@localhost/app", RedisURL: "redis://localhost:6379/0"})
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, warnings, err := config.Load(config.Options{File: path, Environ: []string{}})
	require.NoError(t, err, text)
	require.Empty(t, warnings)
	tokens := make(map[string][]string)
	for _, r := range cfg.Rules() {
		tokens[r.Table.String()] = r.Tokens
	}
	require.Len(t, tokens, len(db.Tables))
	return tokens
}

func leftOut(db *Database) map[string]string {
	m := make(map[string]string)
	for _, l := range db.LeftOut {
		m[l.Name] = l.Reason
	}
	return m
}

// TestSamples compares the configs for well-known schemas with those in testdata.
func TestSamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"film_rental", "shop"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sql, err := os.ReadFile(filepath.Join("testdata", name+".sql"))
			require.NoError(t, err)
			db := read(t, database(t, string(sql)), Options{})
			rules(t, db)
			got := db.Starter(Settings{PostgresURL: "postgres://me@localhost/" + name, RedisURL: "redis://localhost:6379/0"})
			expected := filepath.Join("testdata", name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(expected, []byte(got), 0o600))
			}
			want, err := os.ReadFile(expected)
			require.NoError(t, err)
			require.Equal(t, string(want), got, "run: go test ./internal/introspect -run TestSamples -update")

			// The alternative is one: it takes no more than removing the #.
			file := filepath.Join(t.TempDir(), "icache.yaml")
			uncommented := strings.NewReplacer("  # - table:", "  - table:", "  #   exclude:", "    exclude:").Replace(got)
			require.NoError(t, os.WriteFile(file, []byte(uncommented), 0o600))
			cfg, _, err := config.Load(config.Options{File: file, Environ: []string{}})
			require.NoError(t, err)
			require.Len(t, cfg.Patterns(), 1)
		})
	}
}

func TestPgbench(t *testing.T) {
	t.Parallel()
	pgbench, err := exec.LookPath("pgbench")
	if err != nil {
		t.Skip("pgbench is not installed")
	}
	url := servertest.Postgres(t)
	out, err := exec.CommandContext(t.Context(), pgbench, "-i", "-q", "--foreign-keys", "--partitions=2", url).CombinedOutput()
	require.NoError(t, err, string(out))
	db := read(t, connect(t, url), Options{})
	require.Equal(t, map[string][]string{
		"public.pgbench_accounts": {"pgbench_accounts", "pgbench_accounts:{aid}", "pgbench_branches:{bid}"},
		"public.pgbench_branches": {"pgbench_branches", "pgbench_branches:{bid}"},
		"public.pgbench_history":  {"pgbench_history", "pgbench_tellers:{tid}", "pgbench_branches:{bid}", "pgbench_accounts:{aid}"},
		"public.pgbench_tellers":  {"pgbench_tellers", "pgbench_tellers:{tid}", "pgbench_branches:{bid}"},
	}, rules(t, db))
	require.Contains(t, leftOut(db), "2 partitions of public.pgbench_accounts")
}

// TestOddNames: names that need care in SQL, in templates, in YAML or in comments.
func TestOddNames(t *testing.T) {
	t.Parallel()
	conn := database(t, `
		CREATE SCHEMA "Sales"; CREATE SCHEMA hr;
		CREATE TABLE "Sales"."Order ""Lines""" ("Line No" int, "żółw" int, "a{b}" int, PRIMARY KEY ("żółw", "Line No", "a{b}"));
		CREATE TABLE hr.person (id int PRIMARY KEY);
		CREATE TABLE "Sales".person (id int PRIMARY KEY, hr int REFERENCES hr.person);
		CREATE TABLE "{curly}" (id int PRIMARY KEY);
		CREATE TABLE "*" (id int PRIMARY KEY);
		CREATE TABLE "it's #1: a\b" (id int PRIMARY KEY);
		CREATE TABLE "line
break" ("c
tables: []" int PRIMARY KEY, up int REFERENCES "line
break");
		CREATE VIEW "a
tables: [] #" AS SELECT 1;
		CREATE TABLE "true" (id int PRIMARY KEY);
		CREATE TABLE "-1.5" (id int PRIMARY KEY);
		CREATE TABLE empty ();`)
	db := read(t, conn, Options{})
	require.Equal(t, map[string][]string{
		`"Sales"."Order ""Lines"""`: {`Order "Lines"`, `Order "Lines":{żółw}:{"Line No"}:{"a{b}"}`},
		`hr.person`:                 {"hr.person", "hr.person:{id}"},
		`"Sales".person`:            {"Sales.person", "Sales.person:{id}", "hr.person:{hr}"},
		`public."{curly}"`:          {"{{curly}}", "{{curly}}:{id}"},
		`public."*"`:                {"public.*", "public.*:{id}"},
		`public."it's #1: a\b"`:     {`it's #1: a\b`, `it's #1: a\b:{id}`},
		"public.\"line\nbreak\"":    {"line_break", "line_break:{\"c\ntables: []\"}", "line_break:{up}"},
		`public.true`:               {"true", "true:{id}"},
		`public."-1.5"`:             {"-1.5", "-1.5:{id}"},
		`public.empty`:              {"empty"},
	}, rules(t, db))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	conn := database(t, `
		CREATE TABLE pair (a int, b int, code text UNIQUE, c int, d int, PRIMARY KEY (b, a), UNIQUE (c, d));
		CREATE TABLE single (id int PRIMARY KEY, code text UNIQUE NOT NULL, price numeric(10,2) UNIQUE);
		CREATE TABLE child (
		  id timestamptz PRIMARY KEY,
		  x int, y int, FOREIGN KEY (x, y) REFERENCES pair (a, b),
		  code text REFERENCES single (code),
		  FOREIGN KEY (x, y) REFERENCES pair (c, d),
		  big bigint REFERENCES single (id), again bigint,
		  CONSTRAINT twice FOREIGN KEY (big) REFERENCES single (id));
		CREATE TABLE loose (n int REFERENCES single, "when" text);
		CREATE TABLE wide (id numeric(12,4) PRIMARY KEY);
		CREATE TABLE narrow (id numeric(12,2) PRIMARY KEY REFERENCES wide);`)
	db := read(t, conn, Options{})
	got := rules(t, db)
	require.Equal(t, []string{"pair", "pair:{b}:{a}"}, got["public.pair"])
	require.Equal(t, []string{"child", "child:{id}", "pair:{y}:{x}", "single:{code->public.single.id}", "single:{big}"}, got["public.child"])
	require.Equal(t, []string{"loose", "single:{n}"}, got["public.loose"])
	text := db.Starter(Settings{RedisURL: "redis://localhost"})
	require.Contains(t, text, "# no token for the foreign key (x, y) to public.pair (c, d)")
	require.Contains(t, text, "# no primary key: a row has no token of its own\n  - table: public.loose")
	require.Contains(t, text, `"child:{id}" # id in UTC`)
	require.Contains(t, text, `"wide:{id}" # id is numeric(12,2) here and numeric(12,4) there`)
}

func TestLeftOut(t *testing.T) {
	t.Parallel()
	conn := database(t, `
		CREATE TABLE kept (id int PRIMARY KEY);
		CREATE VIEW v AS SELECT * FROM kept;
		CREATE MATERIALIZED VIEW mv AS SELECT * FROM kept;
		CREATE FOREIGN DATA WRAPPER fdw; CREATE SERVER elsewhere FOREIGN DATA WRAPPER fdw;
		CREATE FOREIGN TABLE ft (id int) SERVER elsewhere;
		CREATE TABLE heir (x int) INHERITS (kept);
		CREATE TABLE tree (id int, sub int, PRIMARY KEY (id, sub)) PARTITION BY LIST (id);
		CREATE TABLE tree_1 PARTITION OF tree FOR VALUES IN (1) PARTITION BY LIST (sub);
		CREATE TABLE tree_1_1 PARTITION OF tree_1 FOR VALUES IN (1);
		CREATE TABLE refers (id int PRIMARY KEY, t int, s int, FOREIGN KEY (t, s) REFERENCES tree, FOREIGN KEY (t, s) REFERENCES tree_1 (id, sub));
		CREATE TABLE schema_migrations (version bigint PRIMARY KEY);
		CREATE TABLE "__EFMigrationsHistory" (id text PRIMARY KEY);
		CREATE SCHEMA icache; CREATE TABLE icache.mine (id int);
		CREATE SCHEMA other; CREATE TABLE other.outbox_0 (); CREATE TABLE other.outbox_1 (); CREATE TABLE other.cursor ();
		CREATE TABLE other.meta (); CREATE TABLE other.tables ();
		CREATE TEMP TABLE passing (id int PRIMARY KEY);`)
	db := read(t, conn, Options{})
	require.Equal(t, map[string][]string{
		"public.kept": {"kept", "kept:{id}"}, "public.tree": {"tree", "tree:{id}:{sub}"},
		"public.refers": {"refers", "refers:{id}", "tree:{t}:{s}"},
	}, rules(t, db))
	left := leftOut(db)
	for name, reason := range map[string]string{
		"public.v": "a view", "public.mv": "a materialized view", "public.ft": "a foreign table", "public.heir": "inherits from public.kept",
		"2 partitions of public.tree": "covers", "public.schema_migrations": "golang-migrate",
		`public."__EFMigrationsHistory"`: "Entity Framework", "schema icache": "icache itself", "schema other": "icache itself",
	} {
		require.Contains(t, left[name], reason, name)
	}
	require.Len(t, left, 9)
	require.Contains(t, db.Starter(Settings{}), "\n# Left out:\n#   2 partitions of public.tree: ")
}

// TestRights: a table that the role cannot have triggers on would make the migration fail.
func TestRights(t *testing.T) {
	t.Parallel()
	role := servertest.Prefix(t)
	conn := database(t, `
		CREATE TABLE mine (id int PRIMARY KEY); CREATE TABLE not_mine (id int PRIMARY KEY);
		CREATE SCHEMA closed; CREATE TABLE closed.inside (id int PRIMARY KEY);
		CREATE ROLE "`+role+`"; GRANT TRIGGER ON mine, closed.inside TO "`+role+`"`)
	t.Cleanup(func() {
		_, err := conn.Exec(context.Background(), `RESET ROLE; DROP OWNED BY "`+role+`"; DROP ROLE "`+role+`"`)
		require.NoError(t, err)
	})
	_, err := conn.Exec(t.Context(), `SET ROLE "`+role+`"`)
	require.NoError(t, err)
	db := read(t, conn, Options{})
	require.Len(t, db.Tables, 1)
	require.Equal(t, mapping.TableName{Schema: "public", Name: "mine"}, db.Tables[0].Name)
	require.Contains(t, leftOut(db)["public.not_mine"], `GRANT TRIGGER ON "public"."not_mine"`)
	require.Contains(t, leftOut(db)["closed.inside"], `GRANT USAGE ON SCHEMA "closed"`)
}

func TestVirtualColumns(t *testing.T) {
	t.Parallel()
	conn := connect(t, servertest.Postgres(t))
	var version int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version))
	if version < 180000 {
		t.Skip("virtual columns came with Postgres 18")
	}
	_, err := conn.Exec(t.Context(), "CREATE TABLE box (id int PRIMARY KEY, w int, h int, area int GENERATED ALWAYS AS (w * h) VIRTUAL)")
	require.NoError(t, err)
	require.Contains(t, read(t, conn, Options{}).Starter(Settings{}), "# not seen by triggers, because generated when read: area\n")
}

func TestChoose(t *testing.T) {
	t.Parallel()
	conn := database(t, `
		CREATE SCHEMA a; CREATE SCHEMA b;
		CREATE TABLE a.film (id int PRIMARY KEY); CREATE TABLE a.film_actor (id int PRIMARY KEY, f int REFERENCES a.film);
		CREATE TABLE b.film (id int PRIMARY KEY); CREATE TABLE b."Odd" (id int PRIMARY KEY);`)
	names := func(opts Options) (list []string) {
		for _, t := range read(t, conn, opts).Tables {
			list = append(list, t.Name.String())
		}
		return list
	}
	require.Equal(t, []string{"a.film", "a.film_actor", `b."Odd"`, "b.film"}, names(Options{}))
	require.Equal(t, []string{"a.film", "a.film_actor"}, names(Options{Schemas: []string{"a"}}))
	require.Equal(t, []string{"a.film", "b.film"}, names(Options{Tables: []string{"film"}}))
	require.Equal(t, []string{`b."Odd"`, "b.film"}, names(Options{Tables: []string{"b.Odd", "b.f*"}}))
	require.Equal(t, map[string][]string{"a.film_actor": {"film_actor", "film_actor:{id}", "film:{f}"}},
		rules(t, read(t, conn, Options{Tables: []string{"film_*"}})))
	for _, opts := range []Options{{Schemas: []string{"c"}}, {Tables: []string{"films"}}, {Tables: []string{"film", "odd"}}} {
		_, err := Read(t.Context(), conn, opts)
		var unmatched *UnmatchedError
		require.ErrorAs(t, err, &unmatched)
		require.Contains(t, unmatched.Names, "a.film")
	}
}
