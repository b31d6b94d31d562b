package mapping_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// TestSource_SQL_Postgres runs every form of expression in Postgres, builds
// keys of the results as a trigger does, and expands them.
func TestSource_SQL_Postgres(t *testing.T) {
	t.Parallel()

	ctx := t.Context()
	conn, err := pgx.Connect(ctx, servertest.Postgres(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })

	exec := func(sql string) {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	exec(`SET search_path = pg_catalog, public`)
	exec(`CREATE TYPE public.mood AS ENUM ('happy', 'so "so"')`)
	exec(`CREATE TABLE public.things (
		id bigint, "Odd "" \ Name" text, email text, tags text[], numbers int[], moods mood[], doc jsonb, plain json, key uuid, mood mood, flag boolean)`)
	exec(`INSERT INTO public.things VALUES
		(1, E'a "b" \\ é\t😀', 'ada@example.com', '{red,"two words",NULL}', '{{1,2},{3,4}}', '{happy}',
		 '{"lang": "en", "a": [{"b''c": "deep"}], "c\\d": 7}', '{"lang": "de"}', '0e37df36-f698-11e6-8dd4-cb9ced3df976', 'so "so"', true),
		(2, NULL, NULL, NULL, '{}', NULL, NULL, 'null', NULL, NULL, NULL)`)

	rule := mapping.Rule{Table: mapping.TableName{Schema: "public", Name: "things"}, Tokens: []string{
		`id:{id}`, `odd:{"Odd "" \ Name"}`, `mail:{email|hash}`, `tag:{tags[]}`, `number:{numbers[]}`, `mood:{moods[]}`, `tagh:{tags[]|hash}`,
		`lang:{doc->>'lang'}`, `deep:{doc->'a'->0->>'b''c'}`, `deeph:{doc->'a'->0->>'b''c'|hash}`, `last:{doc->'a'->>-1}`, `back:{doc->>'c\d'}`,
		`plain:{plain->>'lang'}`, `key:{key}`, `one:{mood}`, `flag:{flag}`,
	}}
	m := compile(t, rule)
	var members []string
	for _, s := range m.Rules()[0].Sources() {
		members = append(members, "'"+strings.NewReplacer("'", "''").Replace(s.Name())+"', "+s.SQL("n"))
	}
	keysOf := func(id int) []byte {
		var keys []byte
		err := conn.QueryRow(ctx, `SELECT jsonb_build_array(jsonb_build_object(`+strings.Join(members, ", ")+`)) FROM public.things AS n WHERE id = $1`, id).Scan(&keys)
		require.NoError(t, err)
		return keys
	}

	got, err := m.AppendTokens(nil, mapping.Change{Table: "public.things", Op: mapping.Insert, Keys: keysOf(1)})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"id:1", "odd:a \"b\" \\ é\t😀", "mail:" + mapping.Hash("ada@example.com"),
		"tag:red", "tag:two words", "number:1", "number:2", "number:3", "number:4", "mood:happy",
		"tagh:" + mapping.Hash("red"), "tagh:" + mapping.Hash("two words"),
		"lang:en", "deep:deep", "deeph:" + mapping.Hash("deep"), `last:{"b'c": "deep"}`, "back:7",
		"plain:de", "key:0e37df36-f698-11e6-8dd4-cb9ced3df976", `one:so "so"`, "flag:true",
	}, got)

	got, err = m.AppendTokens(nil, mapping.Change{Table: "public.things", Op: mapping.Insert, Keys: keysOf(2)})
	require.NoError(t, err)
	require.Equal(t, []string{"id:2"}, got)
}
