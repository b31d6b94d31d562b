package mapping_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func TestParseTemplate(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		in        string
		canonical string // if it is not in
		sources   []string
		fallback  string
	}{
		{in: "movies", fallback: "movies"},
		{in: "*", fallback: "*"},
		{in: "a:b:c", fallback: "a:b:c"},
		{in: "movie:{id}", sources: []string{"id"}, fallback: "movie:*"},
		{in: "user:{user_id}:ratings", sources: []string{"user_id"}, fallback: "user:*"},
		{in: "a:b:{id}", sources: []string{"id"}, fallback: "a:*"},
		{in: ":{id}", sources: []string{"id"}, fallback: ":*"},
		{in: "movie-{id}", sources: []string{"id"}, fallback: "*"},
		{in: "movie-{id}:x", sources: []string{"id"}, fallback: "*"},
		{in: "{kind}:{id}", sources: []string{"kind", "id"}, fallback: "*"},
		{in: "x:{ id }", canonical: "x:{id}", sources: []string{"id"}, fallback: "x:*"},
		{in: "x:{id}{id}", sources: []string{"id"}, fallback: "x:*"},
		{in: "x:{userId}", sources: []string{"userId"}, fallback: "x:*"},
		{in: `x:{"userId"}`, canonical: "x:{userId}", sources: []string{"userId"}, fallback: "x:*"},
		{in: `x:{"Odd } ""Name"}`, sources: []string{`"Odd } ""Name"`}, fallback: "x:*"},
		{in: "x:{größe}", sources: []string{"größe"}, fallback: "x:*"},
		{in: "x:{a$1}", sources: []string{"a$1"}, fallback: "x:*"},
		{in: "tag:{tags[]}", sources: []string{"tags[]"}, fallback: "tag:*"},
		{in: "tag:{tags[]}:{tags[]}", sources: []string{"tags[]"}, fallback: "tag:*"},
		{in: "tag:{tags [] | hash}", canonical: "tag:{tags[]|hash}", sources: []string{"tags[]|hash"}, fallback: "tag:*"},
		{in: "l:{doc->>'lang'}", sources: []string{"doc->>'lang'"}, fallback: "l:*"},
		{in: "l:{doc -> 'it''s' -> 0 ->> -1}", canonical: "l:{doc->'it''s'->0->>-1}", sources: []string{"doc->'it''s'->0->>-1"}, fallback: "l:*"},
		{in: `l:{"Doc x"->>'{}'}`, sources: []string{`"Doc x"->>'{}'`}, fallback: "l:*"},
		{in: "u:{email|hash}", sources: []string{"email|hash"}, fallback: "u:*"},
		{in: "u:{doc->>'mail'|hash}", sources: []string{"doc->>'mail'|hash"}, fallback: "u:*"},
		{in: "g:{movie_id->movies.genre_id}", sources: []string{"movie_id"}, fallback: "g:*"},
		{in: `g:{movie_id -> film."My Movies".genre_id | hash}`, canonical: `g:{movie_id->film."My Movies".genre_id|hash}`, sources: []string{"movie_id"}, fallback: "g:*"},
		{in: "{{movie}}:{id}", sources: []string{"id"}, fallback: "{movie}:*"},
		{in: "a:{{{id}}}", sources: []string{"id"}, fallback: "a:*"},
		{in: "}}{{", fallback: "}{"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()

			if tt.canonical == "" {
				tt.canonical = tt.in
			}
			template, err := mapping.ParseTemplate(tt.in)
			require.NoError(t, err)
			require.Equal(t, tt.canonical, template.String())
			var names []string
			for _, s := range template.Sources() {
				names = append(names, s.Name())
			}
			require.Equal(t, tt.sources, names)
			require.Equal(t, tt.fallback, template.Fallback())
			_, plain := template.Plain()
			require.Equal(t, tt.sources == nil, plain)

			again, err := mapping.ParseTemplate(template.String())
			require.NoError(t, err)
			require.Equal(t, template, again)
		})
	}
}

func TestParseTemplate_Errors(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("x", mapping.MaxTokenLen+1)
	for in, want := range map[string]string{
		"":                      `empty template at offset 0 (write a token such as "movies" or "movie:{id}")`,
		"movie:{id":             `unclosed "{" at offset 6 (close it with "}", or write "{{" for a literal brace)`,
		"movie:{":               `unclosed "{" at offset 6 (close it with "}", or write "{{" for a literal brace)`,
		"movie:id}":             `"}" without "{" at offset 8 (write "}}" for a literal brace)`,
		"movie:{}":              `empty placeholder {} at offset 6 (write {column}, or "{{}}" for literal braces)`,
		"movie:{ }":             `empty placeholder {} at offset 6 (write {column}, or "{{}}" for literal braces)`,
		"{1d}":                  `expected a column name, found "1" at offset 1 (odd names go in double quotes: "Odd Name")`,
		"{a b}":                 `unexpected "b" in a placeholder at offset 3 (odd column names go in double quotes: {"Odd Name"})`,
		"{id:05d}":              `unexpected ":" in a placeholder at offset 3 (a placeholder has no format; the value is the column's text form)`,
		"{a,b}":                 `unexpected "," in a placeholder at offset 2 (one column per placeholder: {a}:{b})`,
		"{a{b}}":                `unexpected "{" in a placeholder at offset 2 (close the first "{" before the next one)`,
		"{doc.lang}":            `unexpected "." in a placeholder at offset 4 (write {doc->>'key'} for a JSON field, {doc->table.column} to follow a foreign key; columns are those of the rule's table)`,
		`{""}`:                  `expected a column name, found "}" at offset 1 (odd names go in double quotes: "Odd Name")`,
		`{"Odd}`:                `unclosed quote around a column name at offset 1 (close it with ", and double a quote inside)`,
		"{tags[0]}":             `unexpected "[" at offset 5 (write {tags[]} for a token per element; a single element cannot be named)`,
		"{a[]}:{b[]}":           `a second array in one template at offset 6 (a template takes the elements of one array; write a template for each)`,
		"{doc->'a'}":            `a JSON path that does not end in text at offset 9 (use ->> before the last key)`,
		"{doc->>'a'->'b'}":      `unexpected "-" in a placeholder at offset 10 (odd column names go in double quotes: {"Odd Name"})`,
		"{doc->>lang}":          `expected a JSON key or an index, found "l" at offset 7 (write the key in single quotes: 'lang')`,
		`{doc->>"lang"}`:        `expected a JSON key or an index, found "\"" at offset 7 (write the key in single quotes, ->>'key', or an index, ->>0)`,
		"{doc->>'lang}":         `unclosed quote around a JSON key at offset 7 (close it with ', and double a quote inside)`,
		"{doc->>99999999999}":   `expected a JSON key or an index, found "9" at offset 7 (write the key in single quotes, ->>'key', or an index, ->>0)`,
		"{fk->movies}":          `expected table.column or a JSON key at offset 5 (write fk->table.column to follow a foreign key, fk->>'movies' for a JSON field)`,
		"{fk->a.b.c.d}":         `expected table.column or a JSON key at offset 5 (write fk->table.column to follow a foreign key, fk->>'a' for a JSON field)`,
		"{fk->movies.}":         `expected a table or column name, found "}" at offset 12 (odd names go in double quotes: "Odd Name")`,
		"{email|hsah}":          `unknown modifier "hsah" at offset 7 (did you mean "hash"?)`,
		"{email|upper}":         `unknown modifier "upper" at offset 7 (the only modifier is |hash)`,
		"{email|}":              `unknown modifier "" at offset 7 (the only modifier is |hash)`,
		"{email|hash|hash}":     `|hash twice at offset 12 (once is enough)`,
		" movies":               `blank at the start or the end of a template at offset 1 (a token is compared as it is, blanks included; remove it)`,
		"movies ":               `blank at the start or the end of a template at offset 0 (a token is compared as it is, blanks included; remove it)`,
		"a\nb":                  `control character '\n' in a template at offset 1 (remove it)`,
		"a\xffb":                `template is not valid UTF-8 text at offset 1`,
		"{\"a\xff\"}":           `column name is not valid UTF-8 text at offset 1`,
		"{doc->>'a\xff'}":       `JSON key is not valid UTF-8 text at offset 7`,
		"{" + long[:64] + "}":   `column name is longer than 63 bytes at offset 1 (Postgres keeps no longer names)`,
		"a:{id}" + long:         `template is longer than a token may be, 512 bytes at offset 6 (shorten it)`,
		"größe:{id":             `unclosed "{" at offset 8 (close it with "}", or write "{{" for a literal brace)`,
		"{doc->'a'->table.col}": `expected a JSON key or an index, found "t" at offset 11 (write the key in single quotes: 'table')`,
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()

			template, err := mapping.ParseTemplate(in)
			require.EqualError(t, err, want)
			require.Nil(t, template)
			var syntax *mapping.SyntaxError
			require.ErrorAs(t, err, &syntax)
		})
	}
}

func TestTemplate_Lookups(t *testing.T) {
	t.Parallel()

	m, err := mapping.Compile([]mapping.Rule{{
		Table:  mapping.TableName{Schema: "shop", Name: "items"},
		Tokens: []string{"a:{order_id->orders.customer_id}", "b:{order_id->orders.customer_id}:{id}", "c:{order_id->crm.orders.note|hash}"},
	}})
	require.NoError(t, err)
	items := mapping.TableName{Schema: "shop", Name: "items"}
	require.Equal(t, []mapping.Lookup{
		{Table: items, Column: "order_id", Ref: mapping.TableName{Schema: "shop", Name: "orders"}, RefColumn: "customer_id"},
		{Table: items, Column: "order_id", Ref: mapping.TableName{Schema: "crm", Name: "orders"}, RefColumn: "note"},
	}, m.Rules()[0].Lookups())
	require.Equal(t, "a:{order_id->shop.orders.customer_id}", m.Rules()[0].Templates[0].String())
}

func TestGroup(t *testing.T) {
	t.Parallel()

	for token, want := range map[string]string{
		"movie:42": "movie:*", "user:7:ratings": "user:*", "movie:*": "movie:*", ":x": ":*", "x:": "x:*", "movies": "", "*": "", "": "",
	} {
		got, ok := mapping.Group(token)
		require.Equal(t, want, got, "token %q", token)
		require.Equal(t, want != "", ok, "token %q", token)
	}
}
