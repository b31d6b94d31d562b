package mapping_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func TestParseTableName(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]struct {
		name      mapping.TableName
		canonical string
		sql       string
	}{
		"movies":                {mapping.TableName{Schema: "public", Name: "movies"}, "public.movies", `"public"."movies"`},
		"public.movies":         {mapping.TableName{Schema: "public", Name: "movies"}, "public.movies", `"public"."movies"`},
		"public.Movies":         {mapping.TableName{Schema: "public", Name: "Movies"}, `public."Movies"`, `"public"."Movies"`},
		`public."Odd Name"`:     {mapping.TableName{Schema: "public", Name: "Odd Name"}, `public."Odd Name"`, `"public"."Odd Name"`},
		`"a.b"."c""d"`:          {mapping.TableName{Schema: "a.b", Name: `c"d`}, `"a.b"."c""d"`, `"a.b"."c""d"`},
		`"movies"`:              {mapping.TableName{Schema: "public", Name: "movies"}, "public.movies", `"public"."movies"`},
		"straße":                {mapping.TableName{Schema: "public", Name: "straße"}, `public."straße"`, `"public"."straße"`},
		"order":                 {mapping.TableName{Schema: "public", Name: "order"}, "public.order", `"public"."order"`},
		strings.Repeat("x", 63): {mapping.TableName{Schema: "public", Name: strings.Repeat("x", 63)}, "public." + strings.Repeat("x", 63), `"public"."` + strings.Repeat("x", 63) + `"`},
	} {
		got, err := mapping.ParseTableName(in)
		require.NoError(t, err, in)
		require.Equal(t, want.name, got, in)
		require.Equal(t, want.canonical, got.String(), in)
		require.Equal(t, want.sql, got.SQL(), in)
		again, err := mapping.ParseTableName(got.String())
		require.NoError(t, err, in)
		require.Equal(t, got, again, in)
	}
}

func TestParseTableName_Errors(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]string{
		"":             `expected a table name, found end at offset 0 (odd names go in double quotes: "Odd Name")`,
		"public.":      `expected a table name, found end at offset 7 (odd names go in double quotes: "Odd Name")`,
		".movies":      `expected a table name, found "." at offset 0 (odd names go in double quotes: "Odd Name")`,
		"db.public.t":  `unexpected "." at offset 9 (write schema.table: a database cannot be named, the agent connects to one)`,
		"my table":     `unexpected " " at offset 2 (write table or schema.table, odd names in double quotes: public."Odd Name")`,
		`public."x`:    `unclosed quote around a table name at offset 7 (close it with ", and double a quote inside)`,
		"public.*":     `expected a table name, found "*" at offset 7 (odd names go in double quotes: "Odd Name")`,
		"1st":          `expected a table name, found "1" at offset 0 (odd names go in double quotes: "Odd Name")`,
		"\"a\x00b\"":   `table name is not valid UTF-8 text at offset 0`,
		"public.a\xff": `unexpected "�" at offset 8 (write table or schema.table, odd names in double quotes: public."Odd Name")`,
	} {
		_, err := mapping.ParseTableName(in)
		require.EqualError(t, err, want, in)
	}
	_, err := mapping.ParseTableName(strings.Repeat("x", 64))
	require.EqualError(t, err, "table name is longer than 63 bytes at offset 0 (Postgres keeps no longer names)")
}

func TestParseColumn(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]string{"id": "id", "userId": "userId", `"Odd ""Name"`: `Odd "Name`} {
		got, err := mapping.ParseColumn(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := mapping.ParseColumn("movies.id")
	require.EqualError(t, err, `unexpected "." at offset 6 (write one column, odd names in double quotes: "Odd Name")`)
	_, err = mapping.ParseColumn("")
	require.ErrorContains(t, err, "expected a column name")
}

func TestOp(t *testing.T) {
	t.Parallel()

	for _, op := range mapping.Ops() {
		got, err := mapping.ParseOp(op.String())
		require.NoError(t, err)
		require.Equal(t, op, got)
	}
	_, err := mapping.ParseOp("updated")
	require.EqualError(t, err, `unknown operation "updated" (did you mean "update"?)`)
	_, err = mapping.ParseOp("everything")
	require.EqualError(t, err, `unknown operation "everything" (use insert, update, delete or truncate)`)
	require.Equal(t, `Op('X')`, mapping.Op('X').String())
}

func TestPosition(t *testing.T) {
	t.Parallel()

	require.Equal(t, "icache.yaml:3:7", mapping.Position{File: "icache.yaml", Line: 3, Column: 7}.String())
	require.Equal(t, "icache.yaml:3", mapping.Position{File: "icache.yaml", Line: 3}.String())
	require.Equal(t, "ICACHE_LOG__LEVEL", mapping.Position{File: "ICACHE_LOG__LEVEL"}.String())
	require.Equal(t, "line 3:7", mapping.Position{Line: 3, Column: 7}.String())
	require.Empty(t, mapping.Position{}.String())
}
