package mapping_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func TestSource(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]struct {
		column string
		kind   mapping.Kind
		hashed bool
		sql    string
	}{
		"{id}":                        {"id", mapping.KindColumn, false, `n."id"::text`},
		`{"Odd ""Name"}`:              {`Odd "Name`, mapping.KindColumn, false, `n."Odd ""Name"::text`},
		"{tags[]}":                    {"tags", mapping.KindElements, false, `to_jsonb(n."tags"::text[])`},
		"{doc->>'lang'}":              {"doc", mapping.KindJSON, false, `(n."doc"->>'lang')`},
		`{doc->'a''b'->0->>'c\d'}`:    {"doc", mapping.KindJSON, false, `(n."doc"->'a''b'->0->>E'c\\d')`},
		"{doc->>-1}":                  {"doc", mapping.KindJSON, false, `(n."doc"->>-1)`},
		"{email|hash}":                {"email", mapping.KindColumn, true, `left(encode(sha256(convert_to(n."email"::text,'UTF8')),'hex'),32)`},
		"{doc->>'mail'|hash}":         {"doc", mapping.KindJSON, true, `left(encode(sha256(convert_to((n."doc"->>'mail'),'UTF8')),'hex'),32)`},
		"{mails[]|hash}":              {"mails", mapping.KindElements, true, `to_jsonb(ARRAY(SELECT left(encode(sha256(convert_to(e.v,'UTF8')),'hex'),32) FROM unnest(n."mails"::text[]) AS e(v)))`},
		"{movie_id->movies.genre_id}": {"movie_id", mapping.KindColumn, false, `n."movie_id"::text`},
		"{user_id->users.mail|hash}":  {"user_id", mapping.KindColumn, false, `n."user_id"::text`},
	} {
		template, err := mapping.ParseTemplate(in)
		require.NoError(t, err, in)
		sources := template.Sources()
		require.Len(t, sources, 1, in)
		require.Equal(t, want.column, sources[0].Column(), in)
		require.Equal(t, want.kind, sources[0].Kind(), in)
		require.Equal(t, want.hashed, sources[0].Hashed(), in)
		require.Equal(t, want.sql, sources[0].SQL("n"), in)
	}
	require.Equal(t, "json", mapping.KindJSON.String())
}

func TestHash(t *testing.T) {
	t.Parallel()

	// printf %s ada@example.com | sha256sum | cut -c1-32
	require.Equal(t, "b5fc85e55755f9e0d030a10ab4429b6b", mapping.Hash("ada@example.com"))
	require.Equal(t, "e3b0c44298fc1c149afbf4c8996fb924", mapping.Hash(""))
}
