package mapping_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/mapping"
)

// row is what a trigger captures of one: a text, nil, or a list.
type row map[string]any

// model is a template as a list of literals and columns, and its text.
type model struct {
	literal []string // before each column, and after the last
	column  []string
	list    bool // the last column is an array
}

func (m model) text() string {
	var b strings.Builder
	for i, lit := range m.literal {
		b.WriteString(strings.NewReplacer("{", "{{", "}", "}}").Replace(lit))
		if i < len(m.column) {
			b.WriteString("{" + m.column[i] + "}")
		}
	}
	return b.String()
}

// tokens is a second, plain implementation of what a template yields for a row.
func (m model) tokens(r row) []string {
	out := []string{""}
	for i, lit := range m.literal {
		for j := range out {
			out[j] += lit
		}
		if i >= len(m.column) {
			break
		}
		switch v := r[m.column[i]].(type) {
		case nil:
			return nil
		case string:
			for j := range out {
				out[j] += v
			}
		case []any:
			before := out
			out = nil
			for _, e := range v {
				if s, ok := e.(string); ok {
					for _, b := range before {
						out = append(out, b+s)
					}
				}
			}
		}
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

// The generators are shared, so the tests that draw from them are not parallel:
// a generator names itself when it is first used, which rapid does not guard.
var (
	columns    = []string{"id", "b", `"Odd Name"`, "doc->>'a'"}
	anyLiteral = rapid.StringOfN(rapid.RuneFrom([]rune(`ab:{}*-é"\'`)), 0, 6, -1)
	anyText    = rapid.StringOfN(rapid.OneOf(rapid.RuneFrom([]rune("a1:*\"\\\n<\u2028")), rapid.Rune()), 0, 8, -1).
			Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
	anyModel = rapid.Custom(func(t *rapid.T) model {
		m := model{column: rapid.SliceOfN(rapid.SampledFrom(columns), 0, 3).Draw(t, "columns"), list: rapid.Bool().Draw(t, "list")}
		if m.list {
			m.column = append(m.column, "tags[]")
		}
		for range len(m.column) + 1 {
			m.literal = append(m.literal, anyLiteral.Draw(t, "literal"))
		}
		return m
	}).Filter(func(m model) bool { return m.text() != "" })
	anyRow = rapid.Custom(func(t *rapid.T) row {
		text := rapid.OneOf(rapid.Just[any](nil), rapid.Map(anyText, func(s string) any { return s }))
		r := row{"tags[]": nil}
		for _, c := range columns {
			r[c] = text.Draw(t, c)
		}
		if rapid.Bool().Draw(t, "has tags") {
			r["tags[]"] = rapid.SliceOfN(text, 0, 4).Draw(t, "tags")
		}
		return r
	})
)

func keysOf(t require.TestingT, rows []row) []byte {
	b, err := json.Marshal(rows)
	require.NoError(t, err)
	return b
}

func modelRule(t *rapid.T) ([]model, mapping.Rule) {
	models := rapid.SliceOfNDistinct(anyModel, 1, 4, model.text).Draw(t, "templates")
	var tokens []string
	for _, m := range models {
		tokens = append(tokens, m.text())
	}
	return models, movieRule(tokens...)
}

func TestProperty_EveryTokenComesOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		models, rule := modelRule(t)
		m, err := mapping.Compile([]mapping.Rule{rule})
		require.NoError(t, err)
		rows := rapid.SliceOfN(anyRow, 1, 5).Draw(t, "rows")
		got, err := m.AppendTokens(nil, mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: keysOf(t, rows)})
		require.NoError(t, err)

		want := map[string]bool{}
		for _, r := range rows {
			for _, template := range models {
				for _, token := range template.tokens(r) {
					want[token] = true
				}
			}
		}
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), distinct(got))
	})
}

func TestProperty_FallbackCoversEveryToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, rule := modelRule(t)
		m, err := mapping.Compile([]mapping.Rule{rule})
		require.NoError(t, err)
		tokens, err := m.AppendTokens(nil, mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: keysOf(t, []row{anyRow.Draw(t, "row")})})
		require.NoError(t, err)
		fallback, err := m.AppendTokens(nil, mapping.Change{Table: "public.movies", Op: mapping.Truncate})
		require.NoError(t, err)
		for _, token := range tokens {
			// A reader of the token depends on its group and on the generation.
			group, _ := mapping.Group(token)
			require.True(t, slices.Contains(fallback, token) || slices.Contains(fallback, group) || slices.Contains(fallback, mapping.Generation),
				"token %q is not covered by %q", token, fallback)
		}
	})
}

func TestProperty_OrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, rule := modelRule(t)
		r := anyRow.Draw(t, "row")
		names := rapid.Permutation(slices.Sorted(maps.Keys(r))).Draw(t, "order of members")
		var members []string
		for _, name := range names {
			k, _ := json.Marshal(name)
			v, _ := json.Marshal(r[name])
			members = append(members, string(k)+": "+string(v))
		}
		shuffled := rule
		shuffled.Tokens = rapid.Permutation(rule.Tokens).Draw(t, "order of templates")

		one, err := mapping.Compile([]mapping.Rule{rule})
		require.NoError(t, err)
		other, err := mapping.Compile([]mapping.Rule{shuffled})
		require.NoError(t, err)
		change := mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: keysOf(t, []row{r})}
		want, err := one.AppendTokens(nil, change)
		require.NoError(t, err)
		change.Keys = []byte("[{" + strings.Join(members, ", ") + "}]")
		got, err := other.AppendTokens(nil, change)
		require.NoError(t, err)
		require.ElementsMatch(t, distinct(want), distinct(got))
	})
}

func TestProperty_TemplateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := anyModel.Draw(t, "template").text()
		template, err := mapping.ParseTemplate(text)
		require.NoError(t, err)
		require.Equal(t, text, template.String())
	})
}

func TestProperty_TableNameRoundTrip(t *testing.T) {
	name := rapid.StringN(1, 12, 63).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
	rapid.Check(t, func(t *rapid.T) {
		table := mapping.TableName{Schema: name.Draw(t, "schema"), Name: name.Draw(t, "name")}
		for _, text := range []string{table.String(), table.SQL()} {
			got, err := mapping.ParseTableName(text)
			require.NoError(t, err)
			require.Equal(t, table, got)
		}
	})
}

func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
