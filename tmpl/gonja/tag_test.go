package icachegonja_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	icachegonja "github.com/icache-go/icache-agent/tmpl/gonja"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// site has templates of its own in an environment of its own.
type site struct {
	env   *exec.Environment
	cfg   *config.Config
	files map[string]string
}

func newSite(t *testing.T, cfg icachegonja.Config) *site {
	t.Helper()
	set := exec.NewControlStructureSet(map[string]parser.ControlStructureParser{}).Update(builtins.ControlStructures)
	require.NoError(t, icachegonja.Register(set, cfg))
	require.ErrorContains(t, icachegonja.Register(set, cfg), "already registered")
	s := &site{cfg: config.New(), files: map[string]string{}, env: &exec.Environment{
		Context:           exec.EmptyContext().Update(builtins.GlobalFunctions).Update(builtins.GlobalVariables),
		Filters:           builtins.Filters,
		Tests:             builtins.Tests,
		ControlStructures: set,
		Methods:           builtins.Methods,
	}}
	s.cfg.AutoEscape = true
	return s
}

func (s *site) parse(text string) (*exec.Template, error) {
	files := map[string]string{"/page": text}
	for name, text := range s.files {
		files["/"+name] = text
	}
	return exec.NewTemplate("/page", s.cfg, loaders.MustNewMemoryLoader(files), s.env)
}

func (s *site) mustParse(t *testing.T, text string) *exec.Template {
	t.Helper()
	tpl, err := s.parse(text)
	require.NoError(t, err)
	return tpl
}

type vars = map[string]any

func run(ctx context.Context, t *testing.T, tpl *exec.Template, v vars) string {
	t.Helper()
	out, err := tpl.ExecuteToString(icachegonja.Context(ctx, exec.NewContext(v)))
	require.NoError(t, err)
	return out
}

func TestExampleOfTheDocumentation(t *testing.T) {
	t.Parallel()
	ctx, events := tmpltest.Record(t.Context())
	cache := tmpltest.Cache(t)
	tpl := newSite(t, icachegonja.Config{Cache: cache}).mustParse(t, `{% icache 'movies-personal-rating' 'movies' user.id %}
    ... list of movies ordered by personal rating ...{{ movies|join(",") }}
{% endicache %}
`)
	user := func(id int, movies ...string) vars {
		return vars{"user": map[string]int{"id": id}, "movies": movies}
	}
	require.Contains(t, run(ctx, t, tpl, user(1, "Ran", "<Solaris>")), "Ran,&lt;Solaris&gt;")
	require.Contains(t, run(ctx, t, tpl, user(2, "Stalker")), "Stalker")
	require.Contains(t, run(ctx, t, tpl, user(1)), "Ran,&lt;Solaris&gt;")
	require.NoError(t, cache.Incr(ctx, "movies"))
	require.Contains(t, run(ctx, t, tpl, user(1, "Mirror")), "Mirror")
	const n = "movies-personal-rating: "
	require.Equal(t, []string{n + "miss", n + "miss", n + "hit", n + "miss"}, events.Outcomes())
}

func TestFiltersAndVary(t *testing.T) {
	t.Parallel()
	ctx, events := tmpltest.Record(t.Context())
	cache := tmpltest.Cache(t)
	s := newSite(t, icachegonja.Config{Cache: cache})
	for _, text := range []string{
		`{% icache "F-x"|lower "movie:" ~ id vary lang page %}{{ lang }}{% endicache %}`,
		`{% icache "F-x"|lower, "movie:%d"|format(id), vary lang, page %}{{ lang }}!{% endicache %}`,
	} {
		tpl := s.mustParse(t, text)
		en := run(ctx, t, tpl, vars{"id": 7, "lang": "en", "page": 1})
		require.Contains(t, en, "en")
		require.Contains(t, run(ctx, t, tpl, vars{"id": 7, "lang": "de", "page": 1}), "de")
		require.NoError(t, cache.Incr(ctx, "en"))
		require.Equal(t, en, run(ctx, t, tpl, vars{"id": 7, "lang": "en", "page": 1}))
		list := events.Events()
		require.Equal(t, icache.Hit, list[2].Outcome)
		require.Subset(t, list[2].Tokens, []string{"f-x", "movie:7"})
		require.NotContains(t, list[2].Tokens, "en")
	}
}

type movie struct{ ID, Title string }

// The inner blocks are in another file, in a macro, in an imported one, and in
// the body of a {% call %}: wherever they are, the outer block depends on them.
func TestNested(t *testing.T) {
	t.Parallel()
	const row = `[{% icache 'row' movie.ID %}{{ movie.Title }}{% endicache %}]`
	const macro = `{% macro row(movie) %}` + row + `{% endmacro %}`
	for name, text := range map[string]string{
		"plain":    `{% icache 'list' %}{% for movie in movies %}` + row + `{% endfor %}{% endicache %}`,
		"include":  `{% icache 'list' %}{% for movie in movies %}{% include "row.html" %}{% endfor %}{% endicache %}`,
		"macro":    macro + `{% icache 'list' %}{% for movie in movies %}{{ row(movie) }}{% endfor %}{% endicache %}`,
		"imported": `{% import "macros.html" as m %}{% icache 'list' %}{% for movie in movies %}{{ m.row(movie) }}{% endfor %}{% endicache %}`,
		"from":     `{% icache 'list' %}{% from "macros.html" import row %}{% for movie in movies %}{{ row(movie) }}{% endfor %}{% endicache %}`,
		"caller":   `{% macro list() %}{% icache 'list' %}{{ caller() }}{% endicache %}{% endmacro %}{% call list() %}{% for movie in movies %}` + row + `{% endfor %}{% endcall %}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, events := tmpltest.Record(t.Context())
			cache := tmpltest.Cache(t)
			s := newSite(t, icachegonja.Config{Cache: cache, Templates: fstest.MapFS{"row.html": {Data: []byte(row)}}})
			s.files = map[string]string{"row.html": row, "macros.html": macro}
			tpl := s.mustParse(t, text)
			v := func(a, b string) vars {
				return vars{"movies": []movie{{"nested:1", a}, {"nested:2", b}}}
			}
			require.Equal(t, "[a][b]", run(ctx, t, tpl, v("a", "b")))
			require.Equal(t, "[a][b]", run(ctx, t, tpl, v("x", "y")))
			require.NoError(t, cache.Incr(ctx, "nested:2"))
			require.Equal(t, "[a][y]", run(ctx, t, tpl, v("x", "y")))
			require.Equal(t, []string{"row: miss", "row: miss", "list: miss", "list: hit", "row: hit", "row: miss", "list: miss"}, events.Outcomes())
		})
	}
}

func TestCollection(t *testing.T) {
	t.Parallel()
	cache, other, trips := tmpltest.Processes(t)
	tpl := newSite(t, icachegonja.Config{Cache: cache}).mustParse(t,
		`{% icache 'list' %}{% for m in movies %}{% icache 'row' m.Token() %}{{ m.Title }};{% endicache %}{% endfor %}{% endicache %}`)
	tmpltest.Collection(t, cache, other, trips, func(ctx context.Context, movies []tmpltest.Movie) (string, error) {
		return tpl.ExecuteToString(icachegonja.Context(ctx, exec.NewContext(vars{"movies": movies})))
	})
}

func TestVariablesAndFunctions(t *testing.T) {
	t.Parallel()
	ctx, cache := t.Context(), tmpltest.Cache(t)
	tpl := newSite(t, icachegonja.Config{Cache: cache}).mustParse(t,
		`{% set x = 1 %}{% icache 'vars' %}{% set x = 2 %}{{ x }}{{ load(icachectx) }}{% endicache %}{{ x }}`)
	calls := 0
	v := func() vars {
		return vars{"load": func(ctx context.Context) string {
			calls++
			icache.Depend(ctx, "loaded")
			return "L"
		}}
	}
	for range 3 {
		require.Equal(t, "2L1", run(ctx, t, tpl, v()))
	}
	require.Equal(t, 1, calls)
	require.NoError(t, cache.Incr(ctx, "loaded"))
	run(ctx, t, tpl, v())
	require.Equal(t, 2, calls)
}

func TestSourceAndEscapingArePartOfTheKey(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), newSite(t, icachegonja.Config{Cache: tmpltest.Cache(t)})
	for range 2 {
		for text, want := range map[string]string{
			`{% icache 'key' %}a{{ s }}{% endicache %}`:                                                  "a&lt;s&gt;",
			`{% icache 'key' %}b{{ s }}{% endicache %}`:                                                  "b&lt;s&gt;",
			`{% autoescape false %}{% icache 'key' %}a{{ s }}{% endicache %}{% endautoescape %}`:         "a<s>",
			`{% icache 'key' %} {{ s }} {% endicache %} z`:                                               " &lt;s&gt;  z",
			`{% icache 'key' -%} {{ s }} {%- endicache -%} z`:                                            "&lt;s&gt;z",
			`{% icache 'key' %}{% raw %}{% endicache %}{% endraw %}{# {% endicache %} #}{% endicache %}`: "{% endicache %}",
		} {
			require.Equal(t, want, run(ctx, t, s.mustParse(t, text), vars{"s": "<s>"}), text)
		}
	}
}

func TestTemplatesArePartOfTheKey(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	for _, text := range []string{"one", "two", "one"} {
		s := newSite(t, icachegonja.Config{Cache: cache, Templates: fstest.MapFS{"part.html": {Data: []byte(text)}}})
		s.files["part.html"] = text
		require.Equal(t, text, run(t.Context(), t, s.mustParse(t, `{% icache 'a' %}{% include "/part.html" %}{% endicache %}`), nil))
	}
}

func TestInsideABlockOfATemplateThatExtends(t *testing.T) {
	t.Parallel()
	s := newSite(t, icachegonja.Config{Cache: tmpltest.Cache(t)})
	s.files["base.html"] = `<{% block b %}{% icache 'b' %}base{% endicache %}{% endblock %}>`
	one := s.mustParse(t, `{% extends "base.html" %}{% block b %}{% icache 'b' %}one{% endicache %}{% endblock %}`)
	two := s.mustParse(t, `{% extends "base.html" %}{% block b %}{% icache 'b' %}two{% endicache %}{{ super()|safe }}{% endblock %}`)
	for range 2 {
		require.Equal(t, "<one>", run(t.Context(), t, one, nil))
		require.Equal(t, "<twobase>", run(t.Context(), t, two, nil))
	}
}

func TestFailingBody(t *testing.T) {
	t.Parallel()
	ctx, events := tmpltest.Record(t.Context())
	tpl := newSite(t, icachegonja.Config{Cache: tmpltest.Cache(t)}).mustParse(t, "before{% icache 'fails' %}partial\n{{ f() }}{% endicache %}")
	v := func(err error) *exec.Context {
		return icachegonja.Context(ctx, exec.NewContext(vars{"f": func() (string, error) { return "ok", err }}))
	}
	var out strings.Builder
	err := tpl.Execute(&out, v(errors.New("bad")))
	require.ErrorContains(t, err, "bad")
	require.ErrorContains(t, err, "line 2")
	require.Equal(t, "before", out.String())
	require.NoError(t, tpl.Execute(&out, v(nil)))
	require.Equal(t, "beforebeforepartial\nok", out.String())
	require.Equal(t, []string{"fails: skipped", "fails: miss"}, events.Outcomes())
}

func TestLoopControl(t *testing.T) {
	t.Parallel()
	tpl := newSite(t, icachegonja.Config{Cache: tmpltest.Cache(t)}).mustParse(t,
		`{% icache 'loop' %}{% for i in [1, 2, 3, 4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{% icache 'i' i %}{{ i }}{% endicache %}{% endfor %}{% endicache %}`)
	for range 2 {
		require.Equal(t, "13", run(t.Context(), t, tpl, nil))
	}
}

// One template serves requests at the same time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	tpl := newSite(t, icachegonja.Config{Cache: cache}).mustParse(t,
		`{% macro m(i) %}{% icache 'inner' i %}{{ i }}{% endicache %}{% endmacro %}{% icache 'outer' n %}{{ m(n) }},{{ m(n + 1) }}{% endicache %}`)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 10 {
				out, err := tpl.ExecuteToString(icachegonja.Context(t.Context(), exec.NewContext(vars{"n": i % 4 * 2})))
				if err != nil || out != []string{"0,1", "2,3", "4,5", "6,7"}[i%4] {
					t.Errorf("%d: %q, %v", i, out, err)
				}
			}
		})
	}
	group.Wait()
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t, icachegonja.Config{})
	for text, want := range map[string]string{
		"\n{% icache %}{% endicache %}":                                          "icache needs the name of the fragment: {% icache 'name' 'token' … %} (Line: 2",
		"{% icache vary x %}{% endicache %}":                                     "The first argument of icache names the fragment. (Line: 1 Col: 11",
		"{% icache 'a' vary %}{% endicache %}":                                   "Nothing follows vary.",
		"{% icache 'a' %}{% endicache 'a' %}":                                    "endicache takes no arguments.",
		"\n\n{% icache 'a' %}":                                                   "There is no endicache for this icache. (Line: 3",
		"{% icache 'a' %}{% icache 'b' %}{% endicache %}":                        "There is no endicache for this icache. (Line: 1",
		"{% icache 'a' %}\n{% block b %}{% endblock %}{% endicache %}":           "put icache inside the block. (Line: 2 Col: 4",
		"{% icache 'a' %}\n{{ self.b() }}{% endicache %}":                        "put icache inside the block that it shows. (Line: 2 Col: 4",
		"{% for i in x %}{% icache 'a' %}{% break %}{% endicache %}{% endfor %}": "put the loop inside icache too.",
		"{% icache 'a' %}block {{ block.self }}{% endicache %}":                  "",
		"{% endicache %}": "ControlStructure 'endicache' not found",
	} {
		_, err := s.parse(text)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]string{
		"\n{% icache 'a' nobody %}{% endicache %}":   `at line 2: icache(Line=2 Col=11): icache: fragment "a": argument 2 is nil`,
		"{% icache 3 %}{% endicache %}":              "icache: the first argument names the fragment: want a string, not a int",
		"{% icache 'a' 1|nofilter %}{% endicache %}": "icache: argument 2: ",
	} {
		_, err := s.mustParse(t, text).ExecuteToString(icachegonja.Context(t.Context(), nil))
		require.ErrorContains(t, err, want, text)
	}
	_, err := s.mustParse(t, "{% icache 'a' %}{% endicache %}").ExecuteToString(nil)
	require.ErrorContains(t, err, "icachegonja.Context")
}
