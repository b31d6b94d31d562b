package icachepongo2_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/flosch/pongo2/v6"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	icachepongo2 "github.com/icache-go/icache-agent/tmpl/pongo2"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// The tag is registered once per process, so one test has all others as its
// subtests. They do not run in parallel: parsing into one set is not safe for that.
func TestTag(t *testing.T) {
	t.Parallel()
	cache, other, trips := tmpltest.Processes(t)
	files := fstest.MapFS{"row.html": {Data: []byte("[{% icache 'row' movie.ID %}{{ movie.Title }}{% endicache %}]")}}
	require.NoError(t, icachepongo2.Register(icachepongo2.Config{Cache: cache, Templates: files}))
	require.ErrorContains(t, icachepongo2.Register(icachepongo2.Config{}), "already registered")

	dir := t.TempDir()
	set := pongo2.NewSet("test", pongo2.MustNewLocalFileSystemLoader(dir))
	require.NoError(t, os.CopyFS(dir, files))
	parse := func(t *testing.T, text string) *pongo2.Template {
		t.Helper()
		tpl, err := set.FromString(text)
		require.NoError(t, err)
		return tpl
	}
	run := func(t *testing.T, ctx context.Context, tpl *pongo2.Template, vars pongo2.Context) string {
		t.Helper()
		out, err := tpl.Execute(icachepongo2.Context(ctx, vars))
		require.NoError(t, err)
		return out
	}

	t.Run("usage of the original's documentation", func(t *testing.T) {
		ctx, events := tmpltest.Record(t.Context())
		tpl := parse(t, `{% load icache %}
    {% icache token_1 token_2 token_3 token_n %}
        .. some expensive processing ..
    {% endicache %}
`)
		vars := func() pongo2.Context {
			return pongo2.Context{"token_1": "usage", "token_2": "b", "token_3": 3, "token_n": "n"}
		}
		want := run(t, ctx, tpl, vars())
		require.Contains(t, want, ".. some expensive processing ..")
		require.Equal(t, want, run(t, ctx, tpl, vars()))
		require.Equal(t, []string{"usage: miss", "usage: hit"}, events.Outcomes())
	})

	t.Run("example of the original's documentation", func(t *testing.T) {
		ctx, events := tmpltest.Record(t.Context())
		tpl := parse(t, `{% load icache %}
    {% icache 'movies-personal-rating' 'movies' user.id %}
        ... list of ordered by personal rating movies ...{{ movies|join:"," }}
    {% endicache %}
`)
		user := func(id int, movies ...string) pongo2.Context {
			return pongo2.Context{"user": map[string]int{"id": id}, "movies": movies}
		}
		require.Contains(t, run(t, ctx, tpl, user(1, "Ran", "<Solaris>")), "Ran,&lt;Solaris&gt;")
		require.Contains(t, run(t, ctx, tpl, user(2, "Stalker")), "Stalker")
		require.Contains(t, run(t, ctx, tpl, user(1)), "Ran,&lt;Solaris&gt;")
		require.NoError(t, cache.Incr(ctx, "movies"))
		require.Contains(t, run(t, ctx, tpl, user(1, "Mirror")), "Mirror")
		const n = "movies-personal-rating: "
		require.Equal(t, []string{n + "miss", n + "miss", n + "hit", n + "miss"}, events.Outcomes())
	})

	t.Run("filters and vary", func(t *testing.T) {
		ctx, events := tmpltest.Record(t.Context())
		tpl := parse(t, `{% icache "f"|add:"-x" id|stringformat:"movie:%d" vary lang page %}{{ lang }}{% endicache %}`)
		require.Equal(t, "en", run(t, ctx, tpl, pongo2.Context{"id": 7, "lang": "en", "page": 1}))
		require.Equal(t, "de", run(t, ctx, tpl, pongo2.Context{"id": 7, "lang": "de", "page": 1}))
		require.NoError(t, cache.Incr(ctx, "en"))
		require.Equal(t, "en", run(t, ctx, tpl, pongo2.Context{"id": 7, "lang": "en", "page": 1}))
		list := events.Events()
		require.Equal(t, icache.Hit, list[2].Outcome)
		require.Subset(t, list[2].Tokens, []string{"f-x", "movie:7"})
		require.NotContains(t, list[2].Tokens, "en")
	})

	t.Run("nested over an include", func(t *testing.T) {
		ctx, events := tmpltest.Record(t.Context())
		tpl := parse(t, `{% icache 'list' %}{% for movie in movies %}{% include "row.html" %}{% endfor %}{% endicache %}`)
		type movie struct{ ID, Title string }
		vars := func(a, b string) pongo2.Context {
			return pongo2.Context{"movies": []movie{{"nested:1", a}, {"nested:2", b}}}
		}
		require.Equal(t, "[a][b]", run(t, ctx, tpl, vars("a", "b")))
		require.Equal(t, "[a][b]", run(t, ctx, tpl, vars("x", "y")))
		require.NoError(t, cache.Incr(ctx, "nested:2"))
		require.Equal(t, "[a][y]", run(t, ctx, tpl, vars("x", "y")))
		require.Equal(t, []string{"row: miss", "row: miss", "list: miss", "list: hit", "row: hit", "row: miss", "list: miss"}, events.Outcomes())
	})

	t.Run("collection", func(t *testing.T) {
		tpl := parse(t, `{% icache 'list' %}{% for m in movies %}{% icache 'row' m.Token() %}{{ m.Title }};{% endicache %}{% endfor %}{% endicache %}`)
		tmpltest.Collection(t, cache, other, trips, func(ctx context.Context, movies []tmpltest.Movie) (string, error) {
			return tpl.Execute(icachepongo2.Context(ctx, pongo2.Context{"movies": movies}))
		})
	})

	t.Run("variables and functions", func(t *testing.T) {
		ctx := t.Context()
		tpl := parse(t, `{% set x = 1 %}{% icache 'vars' %}{% set x = 2 %}{{ x }}{{ load(icachectx) }}{% endicache %}{{ x }}`)
		calls := 0
		vars := func() pongo2.Context {
			return pongo2.Context{"load": func(ctx context.Context) string {
				calls++
				icache.Depend(ctx, "loaded")
				return "L"
			}}
		}
		for range 3 {
			require.Equal(t, "2L1", run(t, ctx, tpl, vars()))
		}
		require.Equal(t, 1, calls)
		require.NoError(t, cache.Incr(ctx, "loaded"))
		run(t, ctx, tpl, vars())
		require.Equal(t, 2, calls)
	})

	t.Run("source and escaping are part of the key", func(t *testing.T) {
		ctx := t.Context()
		vars := func() pongo2.Context { return pongo2.Context{"s": "<s>"} }
		for range 2 {
			require.Equal(t, "a&lt;s&gt;", run(t, ctx, parse(t, `{% icache 'key' %}a{{ s }}{% endicache %}`), vars()))
			require.Equal(t, "b&lt;s&gt;", run(t, ctx, parse(t, `{% icache 'key' %}b{{ s }}{% endicache %}`), vars()))
			require.Equal(t, "a<s>", run(t, ctx, parse(t, `{% autoescape off %}{% icache 'key' %}a{{ s }}{% endicache %}{% endautoescape %}`), vars()))
		}
	})

	t.Run("inside a block of a template that extends", func(t *testing.T) {
		ctx := t.Context()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "base.html"), []byte(`<{% block b %}{% icache 'b' %}base{% endicache %}{% endblock %}>`), 0o600))
		one := parse(t, `{% extends "base.html" %}{% block b %}{% icache 'b' %}one{% endicache %}{% endblock %}`)
		two := parse(t, `{% extends "base.html" %}{% block b %}{% icache 'b' %}two{% endicache %}{{ block.Super }}{% endblock %}`)
		for range 2 {
			require.Equal(t, "<one>", run(t, ctx, one, nil))
			require.Equal(t, "<twobase>", run(t, ctx, two, nil))
		}
	})

	t.Run("failing body", func(t *testing.T) {
		ctx, events := tmpltest.Record(t.Context())
		tpl := parse(t, `before{% icache 'fails' %}partial{{ f() }}{% endicache %}`)
		bad := errors.New("bad")
		vars := func(err error) pongo2.Context {
			return icachepongo2.Context(ctx, pongo2.Context{"f": func() (string, error) { return "ok", err }})
		}
		var out strings.Builder
		require.ErrorContains(t, tpl.ExecuteWriterUnbuffered(vars(bad), &out), "bad")
		require.Equal(t, "before", out.String())
		require.NoError(t, tpl.ExecuteWriterUnbuffered(vars(nil), &out))
		require.Equal(t, "beforebeforepartialok", out.String())
		require.Equal(t, []string{"fails: skipped", "fails: miss"}, events.Outcomes())
	})

	t.Run("differential", func(t *testing.T) { differential(t, set) })

	t.Run("without a context", func(t *testing.T) {
		out, err := parse(t, `{% icache 'bare' %}x{% endicache %}`).Execute(nil)
		require.NoError(t, err)
		require.Equal(t, "x", out)
	})

	t.Run("mistakes", func(t *testing.T) {
		for text, want := range map[string]string{
			"\n{% icache %}{% endicache %}":                                "Line 2 Col 4 near 'icache'] icache needs the name of the fragment",
			"{% icache vary x %}{% endicache %}":                           "The first argument of icache names the fragment.",
			"{% icache 'a' vary %}{% endicache %}":                         "Nothing follows vary.",
			"{% icache 'a' %}{% endicache 'a' %}":                          "endicache takes no arguments.",
			"{% icache 'a' %}":                                             "Unexpected EOF, expected tag endicache.",
			"{% icache 'a' %}\n{% block b %}{% endblock %}{% endicache %}": "Line 2 Col 4 near 'block'] A block inside icache would be cached with the text of whichever template fills it first; put icache inside the block.",
			"{% icache 'a' %}block {{ block }}{% endicache %}":             "",
			"{% endicache %}":                                              "Tag 'endicache' not found",
			"{% load humanize %}":                                          `There is no tag library "humanize", only icache.`,
		} {
			_, err := set.FromString(text)
			if want == "" {
				require.NoError(t, err)
				continue
			}
			require.ErrorContains(t, err, want, text)
		}
		for text, want := range map[string]string{
			"\n{% icache 'a' user.id %}{% endicache %}": "Line 2 Col 4 near 'icache'] icache: fragment \"a\": argument 2 is nil",
			"{% icache 3 %}{% endicache %}":             "icache: the first argument names the fragment: want a string, not a int",
		} {
			_, err := parse(t, text).Execute(nil)
			require.ErrorContains(t, err, want, text)
		}
	})
}
