package mapping_test

import (
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func FuzzParseTemplate(f *testing.F) {
	for _, s := range []string{"movies", "movie:{id}", `{"Odd ""Name"}`, "{tags[]|hash}", "{{x}}{doc->'a'->0->>-1}", "{a->b.c.d|hash}", "{a", "a}", "{doc->>'it''s'}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		template, err := mapping.ParseTemplate(s)
		if err != nil {
			var syntax *mapping.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.True(t, syntax.Offset >= 0 && syntax.Offset <= len(s), "offset %d", syntax.Offset)
			return
		}
		again, err := mapping.ParseTemplate(template.String())
		require.NoError(t, err)
		require.Equal(t, template, again)
		require.NotEmpty(t, template.Fallback())
	})
}

func FuzzParseTableName(f *testing.F) {
	for _, s := range []string{"movies", "public.movies", `public."Odd Name"`, `"a.b"."c""d"`, "a.b.c", `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := mapping.ParseTableName(s)
		if err != nil {
			var syntax *mapping.SyntaxError
			require.ErrorAs(t, err, &syntax)
			return
		}
		again, err := mapping.ParseTableName(name.String())
		require.NoError(t, err)
		require.Equal(t, name, again)
	})
}

// FuzzAppendTokens compares the hand-written scanner with encoding/json.
func FuzzAppendTokens(f *testing.F) {
	for _, s := range []string{
		`[{"id": "42", "tags[]": ["a", null]}]`, `[{"id": null}, {"id": 1.5e-3, "id": "x"}]`, `null`, `[]`, `[{"\u0069d": "\ud83d\ude00\ud800"}]`,
		`[{"id": "a", "tags[]": [["b"], "c"], "more": {"x": [true, false]}}] `, `[{"id": "1"},]`, `[{"id": 01}]`, "[{\"id\": \"\x01\"}]",
		`[{"tags[]": []}]`, `[{"tags[]": [[["b"]]]}]`, `[{"tags[]": ["a", 1]}]`,
	} {
		f.Add([]byte(s))
	}
	m, err := mapping.Compile([]mapping.Rule{movieRule("i={id}", "t={tags[]}")})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, keys []byte) {
		if keys == nil || !utf8.Valid(keys) {
			return // encoding/json replaces what is not UTF-8; Postgres cannot send it
		}
		got, err := m.AppendTokens(nil, mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: keys})
		want, ok := reference(keys)
		if !ok {
			require.ErrorIs(t, err, mapping.ErrKeys)
			return
		}
		require.NoError(t, err)
		require.Equal(t, distinct(want), distinct(got))
	})
}

// reference is what the two templates of FuzzAppendTokens yield, by encoding/json.
func reference(keys []byte) (tokens []string, ok bool) {
	var rows []any
	if !json.Valid(keys) {
		return nil, false
	}
	if string(trim(keys)) == "null" {
		return []string{"*"}, true
	}
	if trim(keys)[0] != '[' {
		return nil, false
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(keys, &raw); err != nil {
		return nil, false
	}
	for _, r := range raw {
		var members map[string]json.RawMessage
		if r = trim(r); r[0] != '{' || json.Unmarshal(r, &members) != nil {
			return nil, false
		}
		row := map[string]any{}
		for name, v := range members {
			var value any = json.Number("") // stands for what is not of the right form
			if v = trim(v); v[0] != '-' && (v[0] < '0' || v[0] > '9') && json.Unmarshal(v, &value) != nil {
				value = json.Number("")
			}
			row[name] = value
		}
		rows = append(rows, row)
	}
	for _, r := range rows {
		tokens = append(tokens, referenceRow(r.(map[string]any))...)
	}
	return slices.DeleteFunc(tokens, func(s string) bool { return s == "" }), true
}

func referenceRow(row map[string]any) (tokens []string) {
	id, present := row["id"]
	switch id := id.(type) {
	case string:
		tokens = append(tokens, fit("i="+id))
	case nil:
		if !present {
			tokens = append(tokens, "*")
		}
	default:
		tokens = append(tokens, "*")
	}
	list, present := row["tags[]"]
	switch list := list.(type) {
	case []any:
		elements, ok := flatten(list)
		if !ok || len(elements) > mapping.DefaultMaxKeys {
			return append(tokens, "*")
		}
		for _, e := range elements {
			tokens = append(tokens, fit("t="+e))
		}
	case nil:
		if !present {
			tokens = append(tokens, "*")
		}
	default:
		tokens = append(tokens, "*")
	}
	return tokens
}

func fit(token string) string {
	if len(token) <= mapping.MaxTokenLen {
		return token
	}
	if group, ok := mapping.Group(token); ok && len(group) <= mapping.MaxTokenLen {
		return group
	}
	return mapping.Generation
}

func flatten(list []any) (elements []string, ok bool) {
	for _, e := range list {
		switch e := e.(type) {
		case nil:
		case string:
			elements = append(elements, e)
		case []any:
			inner, ok := flatten(e)
			if !ok {
				return nil, false
			}
			elements = append(elements, inner...)
		default:
			return nil, false
		}
	}
	return elements, true
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t' || b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return b
}
