package mapping_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func TestAppendTokens(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("x", mapping.MaxTokenLen)
	for name, tt := range map[string]struct {
		tokens []string
		keys   string
		want   []string
	}{
		"one row":                     {[]string{"movies", "movie:{id}"}, `[{"id": "42"}]`, []string{"movies", "movie:42"}},
		"old and new":                 {[]string{"movie:{id}", "genre:{genre_id}"}, `[{"id": "1", "genre_id": "7"}, {"id": "1", "genre_id": "8"}]`, []string{"movie:1", "genre:7", "genre:8"}},
		"null skips the token":        {[]string{"movie:{id}", "genre:{genre_id}"}, `[{"id": "1", "genre_id": null}]`, []string{"movie:1"}},
		"null wins over unknown":      {[]string{"x:{a}:{b}"}, `[{"b": null}]`, nil},
		"plain without keys":          {[]string{"movies"}, `[]`, []string{"movies"}},
		"plain with an empty key":     {[]string{"movies"}, `[{}]`, []string{"movies"}},
		"several values":              {[]string{"{a}:{b}/{a}"}, `[{"a": "1", "b": "2"}]`, []string{"1:2/1"}},
		"elements":                    {[]string{"tag:{tags[]}"}, `[{"tags[]": ["a", null, "b"]}]`, []string{"tag:a", "tag:b"}},
		"elements of more dimensions": {[]string{"tag:{tags[]}"}, `[{"tags[]": [["a", "b"], [null, "c"]]}]`, []string{"tag:a", "tag:b", "tag:c"}},
		"elements and columns":        {[]string{"t:{id}:{tags[]}:{tags[]}"}, `[{"id": "1", "tags[]": ["a", "b"]}]`, []string{"t:1:a:a", "t:1:b:b"}},
		"no elements":                 {[]string{"tag:{tags[]}", "x:{id}"}, `[{"tags[]": [], "id": "1"}]`, []string{"x:1"}},
		"null array":                  {[]string{"tag:{tags[]}"}, `[{"tags[]": null}]`, nil},
		"json path":                   {[]string{"l:{doc->>'lang'}"}, `[{"doc->>'lang'": "en"}]`, []string{"l:en"}},
		"hash comes from SQL":         {[]string{"u:{email|hash}"}, `[{"email|hash": "b5fc85e55755f9e0d030a10ab4429b6b"}]`, []string{"u:b5fc85e55755f9e0d030a10ab4429b6b"}},
		"quoted name":                 {[]string{`x:{"Odd \ Name"}`}, `[{"\"Odd \\ Name\"": "1"}]`, []string{"x:1"}},
		"braces":                      {[]string{"{{a}}:{id}"}, `[{"id": "1"}]`, []string{"{a}:1"}},
		"escapes":                     {[]string{"x:{id}"}, `[{"\u0069d": "a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud800z"}]`, []string{"x:a\"\\/\b\f\n\r\té😀\ufffdz"}},
		"value with a colon or star":  {[]string{"{kind}", "x:{kind}"}, `[{"kind": "*"}, {"kind": "a:b"}]`, []string{"*", "x:*", "a:b", "x:a:b"}},
		"missing source":              {[]string{"movies", "movie:{id}", "g:{g}:{id}", "{g}", "l-{g}"}, `[{"id": "1"}]`, []string{"movies", "g:*", "*", "*", "movie:1"}},
		"missing in one of two":       {[]string{"g:{g}"}, `[{"g": "1"}, {}, {}]`, []string{"g:1", "g:*"}},
		"number for a text":           {[]string{"movie:{id}"}, `[{"id": 42}]`, []string{"movie:*"}},
		"object for a text":           {[]string{"movie:{id}"}, `[{"id": {"a": [1, {"b": null}]}}]`, []string{"movie:*"}},
		"list for a text":             {[]string{"movie:{id}"}, `[{"id": ["1"]}]`, []string{"movie:*"}},
		"text for a list":             {[]string{"tag:{tags[]}"}, `[{"tags[]": "a"}]`, []string{"tag:*"}},
		"number in a list":            {[]string{"tag:{tags[]}"}, `[{"tags[]": ["a", 1]}]`, []string{"tag:*"}},
		"last of a repeated member":   {[]string{"movie:{id}"}, `[{"id": 1, "id": "2", "id": "3"}]`, []string{"movie:3"}},
		"foreign members":             {[]string{"movie:{id}"}, ` [ { "x" : [ 1.5e3 , -0 , true , false , null , { } , [ ] ] , "id" : "1" } ] `, []string{"movie:1"}},
		"json null is unknown":        {[]string{"movies", "movie:{id}", "{id}"}, `null`, []string{"movies", "movie:*", "*"}},
		"same token twice in a row":   {[]string{"g:{g}"}, `[{"g": "1"}, {"g": "1"}, {"g": "2"}, {"g": "1"}]`, []string{"g:1", "g:2", "g:1"}},
		"empty value":                 {[]string{"x:{id}"}, `[{"id": ""}]`, []string{"x:"}},
		"empty token":                 {[]string{"{id}"}, `[{"id": ""}]`, nil},
		"long token":                  {[]string{"x:{id}"}, `[{"id": "` + long[2:] + `"}]`, []string{"x:" + long[2:]}},
		"too long":                    {[]string{"x:{id}"}, `[{"id": "` + long + `"}]`, []string{"x:*"}},
		"too long, its own group":     {[]string{"{id}"}, `[{"id": "y:` + long + `"}]`, []string{"y:*"}},
		"too long, no group":          {[]string{"{id}"}, `[{"id": "` + long + `x"}]`, []string{"*"}},
		"too long, group too":         {[]string{"{id}"}, `[{"id": "` + long + `:x"}]`, []string{"*"}},
		"too many elements":           {[]string{"tag:{tags[]}"}, `[{"tags[]": ["` + strings.Repeat(`a","`, 1000) + `b"]}]`, []string{"tag:*"}},
		"unresolved foreign key":      {[]string{"g:{id->genres.name}", "{id->genres.name}"}, `[{"id": "1"}]`, []string{"g:*", "*"}},
		"null foreign key":            {[]string{"g:{id->genres.name}"}, `[{"id": null}]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			m := compile(t, movieRule(tt.tokens...))
			got, err := m.AppendTokens([]string{"first"}, mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: []byte(tt.keys)})
			require.NoError(t, err)
			require.Equal(t, append([]string{"first"}, tt.want...), got)
		})
	}
}

func TestAppendTokens_Errors(t *testing.T) {
	t.Parallel()

	m := compile(t, movieRule("movies", "movie:{id}", "tag:{tags[]}"))
	for keys, want := range map[string]string{
		``:                                     "expected an array of objects, found the end",
		`{}`:                                   "expected an array of objects at offset 0",
		`[`:                                    "expected an object, found the end",
		`[1]`:                                  "expected an object at offset 1",
		`[null]`:                               "expected an object at offset 1",
		`[{]`:                                  "expected a member name at offset 2",
		`[{"id"}]`:                             `expected ":" at offset 6`,
		`[{"id": "1",}]`:                       "expected a member name at offset 12",
		`[{"id": "1"},]`:                       "expected an object at offset 13",
		`[{"id": "1"} {}]`:                     `expected "," or "]" at offset 13`,
		`[{"id": "1" "x": 1}]`:                 `expected "," or "}" at offset 12`,
		`[{"id": "1`:                           "expected a closing quote, found the end",
		`[{"id": "1\`:                          "expected a closing quote, found the end",
		"[{\"id\": \"\n\"}]":                   "expected no control character at offset 9",
		"[{\"id\": \"\\t\n\"}]":                "expected no control character at offset 11",
		`[{"id": "\x"}]`:                       "expected an escape at offset 10",
		`[{"id": "\u12g4"}]`:                   "expected four hexadecimal digits at offset 10",
		`[{"id": nul}]`:                        "expected null at offset 8",
		`[{"id": 01}]`:                         `expected "," or "}" at offset 9`,
		`[{"id": 1.}]`:                         "expected a digit at offset 10",
		`[{"id": 1e+}]`:                        "expected a digit at offset 11",
		`[{"id": }]`:                           "expected a value at offset 8",
		`[{"tags[]": ["a"}]`:                   `expected "," or "]" at offset 16`,
		`[] []`:                                "expected the end at offset 3",
		"[]\x00":                               "expected the end at offset 2",
		`nullnull`:                             "expected the end at offset 4",
		`[{"x": ` + strings.Repeat("[", 10001): "nested deeper than 10000",
	} {
		got, err := m.AppendTokens([]string{"first"}, mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: []byte(keys)})
		require.ErrorIs(t, err, mapping.ErrKeys, keys)
		require.EqualError(t, err, "malformed keys: "+want, keys)
		require.Equal(t, []string{"first"}, got, keys)
	}

	_, err := m.AppendTokens(nil, mapping.Change{Table: "public.people", Op: mapping.Update})
	require.ErrorIs(t, err, mapping.ErrNoRule)
	require.EqualError(t, err, "no rule for the table public.people")
	_, err = m.AppendLookups(nil, mapping.Change{Table: "public.people", Op: mapping.Update})
	require.ErrorIs(t, err, mapping.ErrNoRule)
}

func TestAppendTokens_Operations(t *testing.T) {
	t.Parallel()

	rule := movieRule("movies", "movie:{id}")
	rule.On = []mapping.Op{mapping.Insert}
	m := compile(t, rule)
	for op, want := range map[mapping.Op][]string{
		mapping.Insert: {"movies", "movie:*"},
		mapping.Update: nil,
		'?':            {"movies", "movie:*"}, // not ours: rather too much than too little
	} {
		got, err := m.AppendTokens(nil, mapping.Change{Table: "public.movies", Op: op})
		require.NoError(t, err)
		require.Equal(t, want, got, op.String())
	}
}

func TestAppendTokensWith(t *testing.T) {
	t.Parallel()

	rule := mapping.Rule{
		Table:  mapping.TableName{Schema: "public", Name: "ratings"},
		Tokens: []string{"rating:{id}", "genre:{movie_id->movies.genre_id}", "mail:{user_id->users.email|hash}:{movie_id}"},
	}
	m := compile(t, rule)
	change := mapping.Change{
		Table: "public.ratings", Op: mapping.Update,
		Keys: []byte(`[{"id": "1", "movie_id": "7", "user_id": "3"}, {"id": "2", "movie_id": "8", "user_id": null}, {"id": "3", "movie_id": "9"}, {"id": "4", "movie_id": "10", "user_id": "4"}]`),
	}
	genre, mail := m.Rules()[0].Lookups()[0], m.Rules()[0].Lookups()[1]
	keys, err := m.AppendLookups(nil, change)
	require.NoError(t, err)
	require.Equal(t, []mapping.LookupKey{{genre, "7"}, {mail, "3"}, {genre, "8"}, {genre, "9"}, {genre, "10"}, {mail, "4"}}, keys)

	got, err := m.AppendTokensWith(nil, change, mapping.Resolved{
		{genre, "7"}: {Text: "comedy"},
		{genre, "8"}: {Text: "drama"},
		{genre, "9"}: {Null: true},
		{mail, "3"}:  {Text: "ada@example.com"},
	})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"rating:1", "genre:comedy", "mail:b5fc85e55755f9e0d030a10ab4429b6b:7",
		"rating:2", "genre:drama",
		"rating:3", "mail:*", // no user_id in the keys; the movie has no genre
		"rating:4", "genre:*", // neither is known
	}, got)

	for _, c := range []mapping.Change{{Table: change.Table, Op: 'T'}, {Table: change.Table, Op: 'U', Keys: []byte("null")}, {Table: change.Table, Op: 'U', Keys: []byte("[]")}} {
		keys, err = m.AppendLookups(nil, c)
		require.NoError(t, err)
		require.Empty(t, keys)
	}
	keys, err = m.AppendLookups(keys, mapping.Change{Table: change.Table, Op: 'U', Keys: []byte(`[{"movie_id": "1"}, 2]`)})
	require.ErrorIs(t, err, mapping.ErrKeys)
	require.Empty(t, keys)
}

func TestMapper_Concurrent(t *testing.T) {
	t.Parallel()

	m := compile(t, movieRule("movies", "movie:{id}", "tag:{tags[]}", "name:{name}"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				keys, want := `[{"id": "1", "tags[]": ["a", "b"], "name": "x\ny"}]`, []string{"movies", "movie:1", "tag:a", "tag:b", "name:x\ny"}
				if i%3 == 0 {
					keys, want = `[{"id": "2", "name": null, "tags[]": []}]`, []string{"movies", "movie:2"}
				}
				got, err := m.AppendTokens(nil, mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: []byte(keys)})
				if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestCompiledRule_Keys(t *testing.T) {
	t.Parallel()

	m := compile(t, movieRule("a:{id}", "b:{ok}", "t:{tags[]}", "h:{mail|hash}", "j:{doc->'a'->-1->>'b'}", "k:{doc}", "l:{gone}", "m:{doc->>0}"))
	rule := m.Rules()[0]
	keys, err := rule.Keys(
		[]byte(`{"id": 12345678901234567890, "ok": true, "tags": ["x", null, 3], "mail": "ada@example.com", "doc": {"a": [0, {"b": "deep"}]}}`),
		[]byte(`{"id": null, "tags": null, "doc": {"a": []}, "more": 1}`),
	)
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"id": "12345678901234567890", "ok": "true", "tags[]": ["x", null, "3"], "mail|hash": "b5fc85e55755f9e0d030a10ab4429b6b",
		 "doc->'a'->-1->>'b'": "deep", "doc": "{\"a\":[0,{\"b\":\"deep\"}]}", "doc->>0": null},
		{"id": null, "tags[]": null, "doc->'a'->-1->>'b'": null, "doc": "{\"a\":[]}", "doc->>0": null}
	]`, string(keys))

	for _, bad := range []string{"", "[]", "null", `{"a":1} {"b":2}`, "{"} {
		_, err := rule.Keys([]byte(`{}`), []byte(bad))
		require.ErrorContains(t, err, "row 2 is not a JSON object of columns", bad)
	}
}
