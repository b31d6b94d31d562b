package mapping_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

var movies = mapping.TableName{Schema: "public", Name: "movies"}

func compile(t testing.TB, rules ...mapping.Rule) *mapping.Mapper {
	t.Helper()
	m, err := mapping.Compile(rules)
	require.NoError(t, err)
	return m
}

// movieRule is a rule for public.movies with these tokens.
func movieRule(tokens ...string) mapping.Rule { return mapping.Rule{Table: movies, Tokens: tokens} }

func TestCompile(t *testing.T) {
	t.Parallel()

	m := compile(
		t,
		mapping.Rule{
			Table: movies, On: []mapping.Op{mapping.Truncate, mapping.Insert}, Columns: []string{"stars", `"Odd Name"`},
			When: " stars > 1\n", Tokens: []string{"movies", "movie:{id}", "tag:{tags[]}:{id}", "x:{x}"}, MaxKeys: 5, Always: true, Settle: time.Second,
		},
		mapping.Rule{Table: mapping.TableName{Schema: "public", Name: "people"}, Tokens: []string{"{id}", "{name}", "people"}},
	)
	require.Len(t, m.Rules(), 2)
	r := m.Rules()[0]
	require.Same(t, r, m.Rule("public.movies"))
	require.Nil(t, m.Rule("movies"))
	require.Equal(t, []mapping.Op{mapping.Insert, mapping.Truncate}, r.Rule.On)
	require.Equal(t, []string{"stars", "Odd Name"}, r.Rule.Columns)
	require.Equal(t, "stars > 1", r.Rule.When)
	require.Equal(t, 5, r.Rule.MaxKeys)
	require.True(t, r.Rule.Always)
	require.Equal(t, time.Second, r.Rule.Settle)
	var names []string
	for _, s := range r.Sources() {
		names = append(names, s.Name())
	}
	require.Equal(t, []string{"id", "tags[]", "x"}, names)
	require.Equal(t, []string{"movies"}, r.Plain())
	require.Equal(t, []string{"movies", "movie:*", "tag:*", "x:*"}, r.Fallback())
	require.True(t, r.Covers(mapping.Insert))
	require.False(t, r.Covers(mapping.Update))

	r = m.Rules()[1]
	require.Equal(t, mapping.Ops(), r.Rule.On)
	require.Equal(t, mapping.DefaultMaxKeys, r.Rule.MaxKeys)
	require.Equal(t, []string{"*", "people"}, r.Fallback())

	require.Empty(t, compile(t).Rules())
}

func TestCompile_Errors(t *testing.T) {
	t.Parallel()

	at := func(line, column int) mapping.Position {
		return mapping.Position{File: "icache.yaml", Line: line, Column: column}
	}
	_, err := mapping.Compile([]mapping.Rule{
		{Pos: at(2, 5)},
		{
			Table: movies, Pos: at(4, 5), MaxKeys: -1, Settle: -time.Second, On: []mapping.Op{'U', 'U', 'X'}, When: "a\x00",
			Columns: []string{"a b", "a", "a"}, Tokens: []string{"movie:{id", "movies", "movies", "x:{a}", "x:{ a }"},
			Fields: map[string]mapping.Position{"table": at(4, 12), "tokens[0]": at(9, 14), "tokens[2]": at(9, 40), "settle": at(8, 1), "on[1]": at(5, 9)},
		},
		{Table: movies, Pos: at(20, 5), Tokens: []string{"ok"}},
	})
	var lines []string
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	for _, e := range joined.Unwrap() {
		lines = append(lines, e.Error())
		var one *mapping.Error
		require.ErrorAs(t, e, &one)
	}
	require.Equal(t, []string{
		`icache.yaml:2:5: a rule without a table (write table: schema.table)`,
		`icache.yaml:2:5: a rule without tokens (write tokens: ["movies", "movie:{id}"])`,
		`icache.yaml:5:9: operation update listed twice (remove one)`,
		`icache.yaml:4:5: unknown operation Op('X') (use insert, update, delete or truncate)`,
		`icache.yaml:4:5: column "a b": unexpected " " (write one column, odd names in double quotes: "Odd Name")`,
		`icache.yaml:4:5: column "a" listed twice (remove one)`,
		`icache.yaml:4:5: the condition holds a zero byte (remove it)`,
		`icache.yaml:4:5: max_keys is -1 (use a number from 1 up, or leave it out for 1000)`,
		`icache.yaml:8:1: settle is -1s (use a duration from 0s up)`,
		`icache.yaml:9:14: token "movie:{id": unclosed "{" (close it with "}", or write "{{" for a literal brace)`,
		`icache.yaml:9:40: token "movies" listed twice (remove one)`,
		`icache.yaml:4:5: token "x:{ a }" listed twice (remove one)`,
		`icache.yaml:20:5: a second rule for table public.movies, the first is at icache.yaml:4:12 (put the tokens of both into one rule)`,
	}, lines)

	var syntax *mapping.SyntaxError
	require.ErrorAs(t, err, &syntax)
}

func TestCompile_ErrorsWithoutPositions(t *testing.T) {
	t.Parallel()

	_, err := mapping.Compile([]mapping.Rule{movieRule("a"), movieRule("b")})
	require.EqualError(t, err, "a second rule for table public.movies (put the tokens of both into one rule)")
}
