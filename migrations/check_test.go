package migrations_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

// TestCheck: every mistake is reported, each with its place and what to do.
func TestCheck(t *testing.T) {
	t.Parallel()
	line := 0
	at := func(r mapping.Rule) mapping.Rule {
		line += 10
		r.Pos = mapping.Position{File: "icache.yaml", Line: line, Column: 5}
		r.Fields = map[string]mapping.Position{
			"table": {File: "icache.yaml", Line: line + 1, Column: 12}, "tokens[0]": {File: "icache.yaml", Line: line + 2, Column: 15},
			"columns[0]": {File: "icache.yaml", Line: line + 3, Column: 15}, "when": {File: "icache.yaml", Line: line + 4, Column: 11},
		}
		return r
	}
	with := func(r mapping.Rule, change func(*mapping.Rule)) mapping.Rule { change(&r); return r }
	when := func(table, when string) mapping.Rule {
		return with(rule(table, "x"), func(r *mapping.Rule) { r.When = when })
	}
	b := setup(t, films+`; CREATE TABLE people (id int PRIMARY KEY, "Name" text, tags text[], doc jsonb); CREATE TABLE m (id int) PARTITION BY LIST (id); CREATE TABLE m1 PARTITION OF m DEFAULT;
		CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW mv AS SELECT 1; CREATE SEQUENCE s; CREATE TABLE w1 (id int, f int); CREATE TABLE w2 (id int); CREATE TABLE w3 (id int); CREATE TABLE w4 (id int);
		CREATE TABLE w5 (id int); CREATE TABLE w6 (id int); CREATE FUNCTION f(int) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE SCHEMA other; CREATE TABLE other.lost (id int);
		CREATE TABLE base (id int); CREATE TABLE child () INHERITS (base); CREATE EXTENSION postgres_fdw; CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN TABLE ft (id int) SERVER srv`)
	b.rules(
		at(rule("film", "f:{id}")),                // 10
		at(rule("films", "f:{idd}", "g:{gnere}")), // 20
		at(with(rule("people", "{name}"), func(r *mapping.Rule) { r.Columns = []string{"nmae"} })), // 30
		at(rule("v", "v")),                            // 40
		at(rule("mv", "v")),                           // 50
		at(rule("s", "v")),                            // 60
		at(rule("ft", "v")),                           // 70
		at(rule("m1", "v")),                           // 80
		at(rule("lost", "v")),                         // 90
		at(rule("child", "v")),                        // 100
		at(rule("base", "v")),                         // 110
		at(when("w1", "id > ")),                       // 120
		at(when("w2", "idd > 1")),                     // 130
		at(when("w3", "f(id)")),                       // 140
		at(when("w4", "id = $1")),                     // 150
		at(when("w5", "true); DROP TABLE films; --")), // 160
		at(when("w6", "id IN (SELECT 1) AND 'select' <> \"select\"")), // 170
		at(when("other.lost", "'select' <> ''")),                      // 180, right
	)
	_, err := b.migrator().Up(b.ctx)
	var check *migrations.CheckError
	require.ErrorAs(t, err, &check)
	require.Equal(t, `icache.yaml:11:12: table public.film does not exist (did you mean public.films?)
icache.yaml:20:5: table public.films has no column "gnere" (did you mean "genre"?)
icache.yaml:22:15: table public.films has no column "idd" (did you mean "id"?)
icache.yaml:32:15: table public.people has no column "name" (did you mean "Name"?)
icache.yaml:33:15: table public.people has no column "nmae" (did you mean "Name"?)
icache.yaml:41:12: public.v is a view (write the rule for the tables behind it)
icache.yaml:51:12: public.mv is a view (write the rule for the tables behind it)
icache.yaml:61:12: public.s is not a table
icache.yaml:71:12: public.ft is a foreign table: triggers cannot see what changes it elsewhere (run an agent beside the database that owns it)
icache.yaml:81:12: public.m1 is a partition of public.m (write the rule for public.m)
icache.yaml:91:12: table public.lost does not exist (did you mean other.lost?)
icache.yaml:101:12: public.child inherits from public.base, which has a rule too (write one rule, for public.base)
icache.yaml:124:11: the condition is not valid: syntax error at or near ")" (use columns of the table, and name functions outside pg_catalog with their schema)
icache.yaml:134:11: the condition is not valid: column "idd" does not exist (Perhaps you meant to reference the column "w2.id".)
icache.yaml:144:11: the condition is not valid: function f(integer) does not exist (use columns of the table, and name functions outside pg_catalog with their schema)
icache.yaml:154:11: the condition has a parameter (use the columns of the row only)
icache.yaml:164:11: the condition is not valid: syntax error at or near ")" (use columns of the table, and name functions outside pg_catalog with their schema)
icache.yaml:174:11: the condition has a subquery (use the columns of the row only)`, err.Error())
	require.Equal(t, migrations.Problem{
		Pos: mapping.Position{File: "icache.yaml", Line: 11, Column: 12}, Table: "public.film",
		Msg: "table public.film does not exist", Hint: "did you mean public.films?",
	}, check.Problems[0])
	_, err = b.migrator().Plan(b.ctx)
	require.ErrorAs(t, err, &check)

	var count int
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT count(*) FROM pg_namespace WHERE nspname = 'icache'`).Scan(&count))
	require.Equal(t, 1, count)
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal`).Scan(&count))
	require.Zero(t, count)
}

func TestCheckSources(t *testing.T) {
	t.Parallel()
	b := setup(t, films+"; CREATE TABLE people (id int)")
	for tokens, want := range map[string]string{
		"t:{title[]}":               `{title[]}: column "title" is text, not an array (write {title})`,
		"t:{title->>'x'}":           `{title->>'x'}: column "title" is text, not json or jsonb`,
		"t:{genre->genres.name}":    `table public.genres does not exist`,
		"t:{genre->people.nam}":     `table public.people has no column "nam"`,
		"t:{genre->other.films.id}": `table other.films does not exist (did you mean public.films?)`,
	} {
		b.rules(rule("films", tokens))
		_, err := b.migrator().Plan(b.ctx)
		require.ErrorContains(t, err, want)
	}
}

func TestVirtualColumns(t *testing.T) {
	t.Parallel()
	b := setup(t, "")
	if b.version() < 18 {
		t.Skip("Postgres has virtual generated columns from 18 on")
	}
	b.exec(`CREATE TABLE g (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL)`)
	for want, r := range map[string]mapping.Rule{
		`column "twice" of public.g is generated when it is read: triggers see NULL (make it STORED`: rule("g", "g:{twice}"),
		`column "twice" does not exist`: func() mapping.Rule { r := rule("g", "g"); r.When = "twice > 1"; return r }(),
	} {
		b.rules(r)
		_, err := b.migrator().Plan(b.ctx)
		require.ErrorContains(t, err, want)
	}
	b.rules(rule("g", "g:{id}"))
	b.upToDateAfterUp()
	require.Equal(t, []row{{"g", "I", `{"id":"1"}`}, {"g", "U", `{"id":"1"}`}}, b.took(`INSERT INTO g VALUES (1, 1); UPDATE g SET a = 2`))
}
