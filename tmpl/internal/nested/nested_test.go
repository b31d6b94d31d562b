package nested_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/a-h/templ"
	"github.com/flosch/pongo2/v6"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl/html/template"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	icachepongo2 "github.com/icache-go/icache-agent/tmpl/pongo2"
	icachetempl "github.com/icache-go/icache-agent/tmpl/templ"
	texttemplate "github.com/icache-go/icache-agent/tmpl/text/template"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// Every engine's block calls the next one's. A block depends on the tokens of
// those inside it, whatever engine made them.
func TestEnginesInsideOneAnother(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	title := "a < b"

	// From the inside out: each renders the one before, with the context that
	// its block was given.
	text := texttemplate.Must(texttemplate.New("t").Parse(`{{icache "text" "movie:1"}}({{.}}){{endicache}}`)).Cache(cache)
	html := template.Must(template.New("t").Funcs(template.FuncMap{
		"text": func(ctx context.Context) (string, error) {
			var b strings.Builder
			err := text.ExecuteContext(ctx, &b, title)
			return b.String(), err
		},
	}).Parse(`{{icache "html" "movie:2"}}<b title="{{text icachectx}}">{{text icachectx}}</b>{{endicache}}`)).Cache(cache)
	fragments := icachetempl.New(icachetempl.Config{Cache: cache, Version: "1"})
	component := fragments.Wrap(templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, "<i>"); err != nil {
			return err
		}
		if err := html.ExecuteContext(ctx, w, nil); err != nil {
			return err
		}
		_, err := io.WriteString(w, "</i>")
		return err
	}), "templ", "movie:3")
	require.NoError(t, icachepongo2.Register(icachepongo2.Config{Cache: cache}))
	page, err := pongo2.FromString(`{% icache 'pongo2' 'movie:4' %}<p>{{ component(icachectx)|safe }}</p>{% endicache %}`)
	require.NoError(t, err)

	ctx, events := tmpltest.Record(t.Context())
	render := func() string {
		out, err := page.Execute(icachepongo2.Context(ctx, pongo2.Context{
			"component": func(ctx context.Context) (string, error) {
				var b strings.Builder
				err := component.Render(ctx, &b)
				return b.String(), err
			},
		}))
		require.NoError(t, err)
		return out
	}
	want := func(title string) string {
		return `<p><i><b title="(` + title + `)">(` + title + `)</b></i></p>`
	}

	// An engine's block is rendered twice inside html's: the second is a hit.
	require.Equal(t, want("a &lt; b"), render())
	require.Equal(t, []string{"text: miss", "text: hit", "html: miss", "templ: miss", "pongo2: miss"}, events.Outcomes())
	for range 2 {
		require.Equal(t, want("a &lt; b"), render())
		list := events.Events()
		require.Len(t, list, 1, "a hit renders nothing inside")
		require.Equal(t, icache.Hit, list[0].Outcome)
		require.Subset(t, list[0].Tokens, []string{"pongo2", "movie:4", "templ", "movie:3", "html", "movie:2", "text", "movie:1"})
	}

	title = "c"
	for _, tc := range []struct {
		token, shows string
		outcomes     []string
	}{
		{"movie:4", "a &lt; b", []string{"templ: hit", "pongo2: miss"}},
		{"movie:3", "a &lt; b", []string{"html: hit", "templ: miss", "pongo2: miss"}},
		{"movie:2", "a &lt; b", []string{"text: hit", "text: hit", "html: miss", "templ: miss", "pongo2: miss"}},
		{"movie:1", "c", []string{"text: miss", "text: hit", "html: miss", "templ: miss", "pongo2: miss"}},
	} {
		require.NoError(t, cache.Incr(t.Context(), tc.token))
		require.Equal(t, want(tc.shows), render(), tc.token)
		require.Equal(t, tc.outcomes, events.Outcomes(), tc.token)
		require.Equal(t, want(tc.shows), render(), tc.token)
		require.Equal(t, []string{"pongo2: hit"}, events.Outcomes(), tc.token)
	}
}
