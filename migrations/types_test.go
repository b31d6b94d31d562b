package migrations_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

// TestTypes: the text form does not depend on the session, and what equality
// takes for the same counts as a change.
func TestTypes(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name, typ string
		from, to  string // SQL
		old, new  string // JSON; new is empty if nothing has changed
	}{
		{"uuid", "uuid", `'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'`, `NULL`, `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`, `null`},
		{"bigint", "bigint", `9007199254740993`, `-1`, `"9007199254740993"`, `"-1"`},
		{"boolean", "boolean", `true`, `false`, `"true"`, `"false"`},
		{"numeric with another scale", "numeric", `1.0`, `1.00`, `"1.0"`, `"1.00"`},
		{"jsonb with another number format", "jsonb", `'{"a": 1.0}'`, `'{"a": 1.00}'`, `"{\"a\": 1.0}"`, `"{\"a\": 1.00}"`},
		{"json, which has no equality", "json", `'{"a":1}'`, `'{"a": 1}'`, `"{\"a\":1}"`, `"{\"a\": 1}"`},
		{"point, which has no equality", "point", `'(1,2)'`, `'(1.5,2)'`, `"(1,2)"`, `"(1.5,2)"`},
		{"xml, which has no equality", "xml", `'<a/>'`, `'<a></a>'`, `"<a/>"`, `"<a></a>"`},
		{"text without case", `text COLLATE ignore_case`, `'A'`, `'a'`, `"A"`, `"a"`},
		{"citext", "citext", `'A'`, `'a'`, `"A"`, `"a"`},
		{"interval of equal length", "interval", `'1 day 01:02:03'`, `'25:02:03'`, `"1 day 01:02:03"`, `"25:02:03"`},
		{"minus zero", "float8", `0`, `'-0'`, `"0"`, `"-0"`},
		{"float that differs late", "float8", `0.1`, `0.10000000000000002`, `"0.1"`, `"0.10000000000000002"`},
		{"timestamptz", "timestamptz", `'2024-03-05 06:07:08.9+02'`, `'2024-03-05 06:07:08.9+03'`, `"2024-03-05 04:07:08.9+00"`, `"2024-03-05 03:07:08.9+00"`},
		{"timestamp", "timestamp", `'2024-03-05 06:07:08'`, `'infinity'`, `"2024-03-05 06:07:08"`, `"infinity"`},
		{"date", "date", `'2024-03-05'`, `'2024-05-03'`, `"2024-03-05"`, `"2024-05-03"`},
		{"bytea", "bytea", `'\x00ff'`, `'\x00fe'`, `"\\x00ff"`, `"\\x00fe"`},
		{"money", "money", `1234.5`, `1`, `"$1,234.50"`, `"$1.00"`},
		{"enum", "mood", `'sad'`, `'happy'`, `"sad"`, `"happy"`},
		{"domain over timestamptz", "moment", `'2024-03-05 06:07:08+02'`, `NULL`, `"2024-03-05 04:07:08+00"`, `null`},
		{"composite with a date", "pair", `'(2024-03-05,1)'`, `'(2024-03-05,2)'`, `"(2024-03-05,1)"`, `"(2024-03-05,2)"`},
		{"array of dates", "date[]", `'{2024-03-05}'`, `'{2024-03-05,NULL}'`, `"{2024-03-05}"`, `"{2024-03-05,NULL}"`},
		{"range of timestamps", "tsrange", `'[2024-03-05,2024-03-06)'`, `'empty'`, `"[\"2024-03-05 00:00:00\",\"2024-03-06 00:00:00\")"`, `"empty"`},
		{"inet", "inet", `'10.0.0.1'`, `'10.0.0.1/24'`, `"10.0.0.1/32"`, `"10.0.0.1/24"`},
		{"char(n)", "char(5)", `'a'`, `'b '`, `"a"`, `"b"`},
		{"char(n), blanks only", "char(5)", `'a'`, `'a  '`, `"a"`, ``},
		{"the same value again", "numeric", `1.0`, `1.0`, `"1.0"`, ``},
		{"hstore", "hstore", `'a=>1'`, `'a=>2'`, `"\"a\"=>\"1\""`, `"\"a\"=>\"2\""`},
	}
	// A session that would print everything differently.
	const hostile = `SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape';
		SET extra_float_digits = -15; SET search_path = hostile, public; SET standard_conforming_strings = on; `
	const ddl = `CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (d date, n int);
		CREATE DOMAIN moment AS timestamptz; CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE SCHEMA hostile; CREATE FUNCTION hostile.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
		CREATE FUNCTION hostile.never(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR hostile.= (LEFTARG = int, RIGHTARG = int, FUNCTION = hostile.never); `
	var rules []mapping.Rule
	create := ddl
	tables := func(i int) map[string]string {
		return map[string]string{fmt.Sprintf("keyed%d", i): "id int PRIMARY KEY", fmt.Sprintf("keyless%d", i): "id int"}
	}
	for i, test := range tests {
		for table, key := range tables(i) {
			create += fmt.Sprintf("CREATE TABLE %s (%s, k %s); ", table, key, test.typ)
			r := rule(table, "t:{k}")
			r.Columns = []string{"id"}
			rules = append(rules, r)
		}
	}
	b := setup(t, create, rules...)
	b.exec(hostile)
	for i, test := range tests {
		for table := range tables(i) {
			object := func(values ...string) string {
				texts := make([]string, len(values))
				for i, v := range values {
					texts[i] = fmt.Sprintf(`{"k":%s}`, v)
				}
				return canonical(t, []byte("["+commas(texts)+"]"))
			}
			changed := []row{}
			if test.new != "" {
				changed = append(changed, row{table, "U", object(test.old, test.new)})
			}
			require.Equal(t, []row{{table, "I", object(test.old)}}, b.took(fmt.Sprintf(`INSERT INTO %s SELECT g, %s FROM generate_series(1, 3) g`, table, test.from)), test.name)
			require.Equal(t, changed, b.took(fmt.Sprintf(`UPDATE %s SET k = %s WHERE id = 1`, table, test.to)), test.name)
			require.Equal(t, changed, b.took(fmt.Sprintf(`UPDATE %s SET k = %s WHERE id > 1`, table, test.to)), test.name)
		}
	}
}

func TestPrimaryKeyTypes(t *testing.T) {
	t.Parallel()
	types := map[string][3]string{
		"citext": {"a", "A2", "b"}, "numeric": {"1.0", "2", "3.00"}, "text COLLATE ignore_case": {"a", "B", "c"}, "bytea": {`\x00`, `\x01`, `\x02`},
		"uuid":        {"00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002", "00000000-0000-0000-0000-000000000003"},
		"timestamptz": {"2024-01-01 00:00:00+00", "2024-01-02 00:00:00+00", "2024-01-03 00:00:00+00"},
		"money":       {"$1.00", "$2.00", "$3.00"}, "int4range": {"[1,2)", "[2,3)", "[3,4)"}, "mood": {"sad", "happy", "mad"}, "text[]": {"{a}", "{b}", "{c}"},
	}
	create := `CREATE EXTENSION citext; CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TYPE mood AS ENUM ('sad', 'happy', 'mad'); `
	var rules []mapping.Rule
	for typ := range types {
		name := mapping.TableName{Schema: "public", Name: "of " + typ}
		create += fmt.Sprintf("CREATE TABLE %s (id %s PRIMARY KEY, v int); ", name.SQL(), typ)
		rules = append(rules, mapping.Rule{Table: name, Tokens: []string{"t:{id}"}})
	}
	b := setup(t, create, rules...)
	for typ, values := range types {
		table := mapping.TableName{Schema: "public", Name: "of " + typ}.SQL()
		took := func(format string, args ...any) (op, keys string) {
			got := b.took(fmt.Sprintf(format, args...))
			if len(got) == 0 {
				return "", ""
			}
			require.Len(t, got, 1)
			return got[0].Op, got[0].Keys
		}
		object := func(i int) string { return canonical(t, []byte(fmt.Sprintf(`[{"id":%q}]`, values[i]))) }
		all := join([]string{object(0), object(1), object(2)})
		op, keys := took(`INSERT INTO %s VALUES ('%s', 0), ('%s', 0), ('%s', 0)`, table, values[0], values[1], values[2])
		require.Equal(t, "I "+all, op+" "+keys, typ)
		op, keys = took(`UPDATE %s SET v = 1`, table)
		require.Equal(t, "U "+all, op+" "+keys, typ)
		op, _ = took(`UPDATE %s SET v = 1`, table)
		require.Empty(t, op, typ)
		op, keys = took(`UPDATE %s SET v = CASE id WHEN '%s' THEN 2 ELSE 1 END`, table, values[1])
		require.Equal(t, "U "+object(1), op+" "+keys, typ)
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE t (id int PRIMARY KEY, tags text[], days date[], doc jsonb, old json, email text)`,
		rule("t", "tag:{tags[]}", "day:{days[]}", "lang:{doc->>'lang'}", "deep:{old->'a'->0->>'b'}", "u:{email|hash}"))
	b.exec(`SET DateStyle = 'German'`)
	want := fmt.Sprintf(`[{"days[]": ["2024-03-05"], "doc->>'lang'": "en", "email|hash": %q, "old->'a'->0->>'b'": "x", "tags[]": ["a", null]}]`, mapping.Hash("é@b"))
	nulls := `[{"days[]": null, "doc->>'lang'": null, "email|hash": null, "old->'a'->0->>'b'": null, "tags[]": null}]`
	require.Equal(t, []row{{"t", "I", canonical(t, []byte(want))}, {"t", "I", canonical(t, []byte(nulls))}}, b.took(`
		INSERT INTO t VALUES (1, '{a,NULL}', '{2024-03-05}', '{"lang": "en"}', '{"a": [{"b": "x"}]}', 'é@b'); INSERT INTO t VALUES (2)`))
	require.Equal(t, []row{{"t", "D", join([]string{canonical(t, []byte(want)), canonical(t, []byte(nulls))})}}, b.took(`DELETE FROM t`))
}

// TestHash: the trigger and the application name the same token.
func TestHash(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE t (email text)`, rule("t", "u:{email|hash}"))
	require.Equal(t, []row{{"t", "I", fmt.Sprintf(`{"email|hash":%q}`, mapping.Hash("a@b.c"))}}, b.took(`INSERT INTO t VALUES ('a@b.c')`))
}

func TestManySources(t *testing.T) {
	t.Parallel()
	ddl, tokens := "CREATE TABLE t (id int PRIMARY KEY", []string{}
	for i := range 120 {
		ddl += fmt.Sprintf(", c%d int DEFAULT %[1]d", i)
		tokens = append(tokens, fmt.Sprintf("t%d:{c%[1]d}", i))
	}
	b := setup(t, ddl+")", rule("t", tokens...))
	got := b.took(`INSERT INTO t VALUES (1), (2); UPDATE t SET id = 3 WHERE id = 1; UPDATE t SET c0 = 7`)
	require.Len(t, got, 3)
	for _, r := range got {
		require.Contains(t, r.Keys, `"c119":"119"`)
		require.Contains(t, r.Keys, `"c0":"0"`)
	}
}
