package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "icache.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`
tables:
  - table: movies
    tokens: ["movies", "movie:{id}", "genre:{genre_id}", "tag:{tags[]}", "lang:{doc->>'lang'}"]
  - table: public."Odd Name"
    on: [insert, update]
    columns: [stars]
    when: "stars > 0"
    tokens: ["odd:{\"Film Id\"}", "genre:{\"Film Id\"->movies.genre_id}"]
`), 0o600))
	for name, test := range map[string]struct {
		args []string
		want []string
		note string
	}{
		"insert": {
			[]string{"--table", "movies", "--new", `{"id": 42, "genre_id": "7", "tags": ["a", null, "b"], "doc": {"lang": "en"}}`},
			[]string{"movies", "movie:42", "genre:7", "tag:a", "tag:b", "lang:en"}, "",
		},
		"update": {
			[]string{"--table", "public.movies", "--op", "update", "--old", `{"id": 42, "genre_id": 7, "tags": [], "doc": null}`, "--new", `{"id": 42, "genre_id": 8, "tags": [], "doc": null}`},
			[]string{"movies", "movie:42", "genre:7", "genre:8"}, "",
		},
		"update of nothing": {
			[]string{"--table", "movies", "--old", `{"id": 1}`, "--new", `{"id": 1}`}, []string{}, "nothing is recorded",
		},
		"delete, columns missing": {
			[]string{"--table", "movies", "--old", `{"id": 42, "tags": null}`},
			[]string{"movies", "movie:42", "genre:*", "lang:*"}, `"genre_id" is not given`,
		},
		"truncate": {
			[]string{"--table", "movies", "--op", "truncate"},
			[]string{"movies", "movie:*", "genre:*", "tag:*", "lang:*"}, "",
		},
		"left out": {
			[]string{"--table", `public."Odd Name"`, "--old", `{"Film Id": 1}`}, []string{}, "leaves delete out",
		},
		"no watched column": {
			[]string{"--table", `"Odd Name"`, "--old", `{"Film Id": 1, "stars": 1, "x": 1}`, "--new", `{"Film Id": 1, "stars": 1, "x": 2}`},
			[]string{}, "no column that counts",
		},
		"foreign key": {
			[]string{"--table", `"Odd Name"`, "--old", `{"Film Id": 1, "stars": 1}`, "--new", `{"Film Id": 1, "stars": 2}`},
			[]string{"odd:1", "genre:*"}, "follow",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"check", "-c", path}, test.args...)
			out := decode[tryOut](t, ok(t, append(args, "--json")...))
			require.ElementsMatch(t, test.want, out.Tokens)
			r := agentCLI(t, args...)
			var lines string
			for _, token := range out.Tokens {
				lines += token + "\n"
			}
			require.Equal(t, lines, r.stdout)
			if test.note == "" {
				require.Empty(t, r.stderr)
			} else {
				require.Contains(t, r.stderr, test.note)
			}
		})
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no table":          {[]string{"--new", "{}"}, "--table"},
		"unknown table":     {[]string{"--table", "moviez", "--new", "{}"}, "did you mean"},
		"bad table":         {[]string{"--table", "a.b.c", "--new", "{}"}, "schema.table"},
		"unknown operation": {[]string{"--table", "movies", "--op", "upsert", "--new", "{}"}, "upsert"},
		"no rows":           {[]string{"--table", "movies"}, "--new"},
		"wrong rows":        {[]string{"--table", "movies", "--op", "update", "--new", "{}"}, "--old and --new"},
		"not JSON":          {[]string{"--table", "movies", "--new", "id=42"}, "--new is not a JSON object"},
		"not an object":     {[]string{"--table", "movies", "--new", "[1]"}, "--new is not a JSON object"},
		"null":              {[]string{"--table", "movies", "--new", "null"}, "--new is not a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := agentCLI(t, append([]string{"check", "-c", path}, test.args...)...)
			require.Equal(t, exitUsage, r.code)
			require.Empty(t, r.stdout)
			require.Contains(t, r.stderr, test.want)
		})
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"movie:42": "movie:42", "żółw 🐢": "żółw 🐢", "a\x1b[31mb": `a\x1b[31mb`, "a\nb\x7f": `a\x0ab\x7f`, "\u009bx": `\u009bx`, "\xffx": `\xffx`,
	} {
		require.Equal(t, want, printable(in))
	}
}
