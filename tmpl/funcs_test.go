package tmpl_test

import (
	"context"
	htmltemplate "html/template"
	"io"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/tmpl"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

func TestFuncsHTML(t *testing.T) {
	t.Parallel()
	funcs := tmpl.NewFuncs(tmpltest.Cache(t))
	page := htmltemplate.Must(htmltemplate.New("page").Funcs(funcs.Map()).Parse(
		`{{define "row"}}<b>{{.Name}}</b>{{end}}` +
			`{{range .Rows}}{{cached "row" . $.Ctx "movie" .ID (vary $.Lang)}}{{end}}<p title="{{cached "row" (index .Rows 0) $.Ctx "movie" 1 (vary $.Lang)}}">`))
	require.NoError(t, funcs.Bind(page))
	type row struct {
		ID   int
		Name string
	}
	ctx, events := tmpltest.Record(t.Context())
	run := func(names ...string) string {
		var out strings.Builder
		data := map[string]any{"Ctx": ctx, "Lang": "en", "Rows": []row{{1, names[0]}, {2, names[1]}}}
		require.NoError(t, page.Execute(&out, data))
		return out.String()
	}
	const want = `<b>&lt;a&gt;</b><b>b</b><p title="&lt;a&gt;">`
	require.Equal(t, want, run("<a>", "b"))
	require.Equal(t, want, run("changed", "changed"))
	require.Equal(t, []string{"row: miss", "row: miss", "row: hit", "row: hit", "row: hit", "row: hit"}, events.Outcomes())
}

func TestFuncsText(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	parse := func(row string) *texttemplate.Template {
		funcs := tmpl.NewFuncs(cache)
		page := texttemplate.Must(texttemplate.New("page").Funcs(funcs.Map()).Parse(
			`{{define "row"}}` + row + `{{template "cell"}}{{end}}{{define "cell"}}!{{end}}{{cached "row" . "t"}}`))
		require.NoError(t, funcs.Bind(page))
		return page
	}
	run := func(page *texttemplate.Template, data any) string {
		var out strings.Builder
		require.NoError(t, page.Execute(&out, data))
		return out.String()
	}
	require.Equal(t, "<1>!", run(parse("<{{.}}>"), 1))
	require.Equal(t, "<1>!", run(parse("<{{.}}>"), 2))
	require.Equal(t, "[3]!", run(parse("[{{.}}]"), 3), "another source is another entry")
	require.NoError(t, cache.Incr(context.Background(), "t"))
	require.Equal(t, "<4>!", run(parse("<{{.}}>"), 4))
}

func TestFuncsErrors(t *testing.T) {
	t.Parallel()
	funcs := tmpl.NewFuncs(nil)
	page := texttemplate.Must(texttemplate.New("page").Funcs(funcs.Map()).Parse(`{{cached . 1}}`))
	require.ErrorContains(t, page.Execute(io.Discard, "x"), `template "x": call Bind on the tmpl.Funcs after parsing`)
	require.NoError(t, funcs.Bind(page))
	require.ErrorContains(t, page.Execute(io.Discard, "x"), `no template "x" was there when Bind was called`)
	require.ErrorContains(t, funcs.Bind(other{}), "not a tmpl_test.other")
}

type other struct{}

func (other) ExecuteTemplate(io.Writer, string, any) error { return nil }
