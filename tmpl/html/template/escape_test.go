package template_test

import (
	"context"
	htmltemplate "html/template"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/tmpl/html/template"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

// hostile is data that looks different in every context.
var hostile = map[string]any{
	"S":    `<b a='1' b="2">&amp; it's \ /x?y=z&w#f ]]> --> </script> ` + "`${x}`\n\u2028é☃",
	"URL":  "javascript:alert(1)//%zz ä?a=b&c=d",
	"OK":   "https://example.com/a b?x=1&y=ä",
	"N":    42,
	"F":    -1.5,
	"List": []string{"<a>", "b&c", `"d"`},
	"Map":  map[string]any{"k</script>": []int{1, 2}, "n": nil},
	"HTML": htmltemplate.HTML("<i>fine &amp; \"good\"</i>"),
	"JS":   htmltemplate.JS("a = {b: 1}"),
	"Attr": htmltemplate.HTMLAttr(`class="x"`),
	"CSS":  "expression(alert(1)); color: red",
	"User": map[string]any{"ID": 7},
}

var escapeCases = map[string]string{
	"text":             `<p>{{icache "n" "t"}}{{.S}} {{.HTML}}{{endicache}}</p>`,
	"elements":         `<ul>{{icache "n" "t"}}{{range .List}}<li title="{{.}}">{{.}}</li>{{end}}{{endicache}}</ul>`,
	"title":            `<title>{{icache "n"}}{{.S}} {{.HTML}}{{endicache}}</title>`,
	"textarea":         `<textarea>a{{icache "n"}}{{.S}}{{endicache}}b</textarea>`,
	"double quoted":    `<p title="a {{icache "n"}}{{.S}} {{.HTML}}{{endicache}} b">`,
	"single quoted":    `<p title='{{icache "n"}}{{.S}}{{endicache}}'>`,
	"unquoted":         `<p title={{icache "n"}}{{.S}}{{endicache}}>`,
	"attribute name":   `<p {{icache "n"}}{{.Attr}}{{endicache}} id="x">`,
	"whole attribute":  `<p {{icache "n"}}title="{{.S}}" {{endicache}}>`,
	"url":              `<a href="{{icache "n"}}{{.URL}}{{endicache}}">x</a>`,
	"good url":         `<a href="{{icache "n"}}{{.OK}}{{endicache}}">x</a>`,
	"url path":         `<a href="/u/{{icache "n" .User.ID}}{{.S}}{{endicache}}/x">x</a>`,
	"url query":        `<a href="/u?q={{icache "n"}}{{.S}}{{endicache}}&amp;r={{.S}}">x</a>`,
	"srcset":           `<img srcset="{{icache "n"}}{{.OK}}{{endicache}} 2x">`,
	"script value":     `<script>var x = {{icache "n"}}{{.S}}{{endicache}};</script>`,
	"script object":    `<script>var x = {{icache "n"}}{{.Map}}{{endicache}}; var y = {{.List}}</script>`,
	"script number":    `<script>var x = [{{icache "n"}}{{.N}}, {{.F}}{{endicache}}]</script>`,
	"script string":    `<script>var x = "{{icache "n"}}{{.S}}{{endicache}}"; y = '{{.S}}'</script>`,
	"script statement": `<script>{{icache "n"}}f({{.S}}, {{.JS}});{{endicache}} g({{.S}})</script>`,
	"script template":  "<script>var x = `a {{icache \"n\"}}{{.S}}{{endicache}} b`</script>",
	"script regexp":    `<script>var x = /a{{icache "n"}}{{.S}}{{endicache}}b/.test("x")</script>`,
	"json":             `<script type="application/json">{"a": {{icache "n"}}{{.Map}}{{endicache}}}</script>`,
	"handler":          `<a onclick="f({{icache "n"}}{{.S}}, {{.N}}{{endicache}})">x</a>`,
	"handler string":   `<a onclick='f("{{icache "n"}}{{.S}}{{endicache}}")'>x</a>`,
	"style":            `<style>p { color: {{icache "n"}}{{.CSS}}{{endicache}} }</style>`,
	"style attribute":  `<p style="color: {{icache "n"}}{{.CSS}}{{endicache}}">`,
	"style url":        `<p style="background: url('{{icache "n"}}{{.OK}}{{endicache}}')">`,
	"comment inside":   `<p>{{icache "n"}}a<!-- {{.S}} -->{{/* note */}}b{{endicache}}</p>`,
	"empty body":       `<p>a{{icache "n"}}{{endicache}}b</p>`,
	"whole script":     `{{icache "n"}}<script>var x = {{.S}}</script>{{endicache}}`,
	"trimmed":          "<p>\n a {{- icache `n` -}}  \n {{.S}} \n {{- endicache -}} \n b</p>",
	"nested":           `{{icache "o"}}<p title="{{icache "n"}}{{.S}}{{endicache}}">{{icache "n"}}{{.S}}{{endicache}}</p>{{endicache}}`,
	"same source":      `<p title="{{icache "n"}}{{.S}}{{endicache}}">{{icache "n"}}{{.S}}{{endicache}}<script>{{icache "n"}}{{.S}}{{endicache}}</script>`,
	"called":           `{{define "x"}}{{icache "n"}}{{.S}}{{endicache}}{{end}}{{template "x" .}}`,
	"called in contexts": `{{define "x"}}{{icache "n"}}{{.S}}{{endicache}}{{end}}<title>{{template "x" .}}</title>
		<p title="{{template "x" .}}" onclick="f({{template "x" .}})" data-x={{template "x" .}}>{{template "x" .}}
		<a href="{{template "x" .}}">l</a><a href="/?q={{template "x" .}}">l</a>
		<script>var a = {{template "x" .}}, b = "{{template "x" .}}", c = '{{template "x" .}}'</script>
		<style>p { color: {{template "x" .}} }</style>`,
	"called through another": `{{define "x"}}{{icache "n"}}{{.S}}{{endicache}}{{end}}{{define "y"}}[{{template "x" .}}]{{end}}
		<p title="{{template "y" .}}">{{template "y" .}}{{icache "o"}}<script>f("{{template "y" .}}")</script>{{endicache}}`,
	"block in attribute": `<p title="{{block "x" .}}{{icache "n"}}{{.S}}{{endicache}}{{end}}">{{template "x" .}}`,
	"range":              `{{range $i, $x := .List}}<p title="{{icache "n" $i}}{{$x}}{{endicache}}">{{icache "m" $x}}{{$i}}{{$x}}{{$.N}}{{endicache}}{{end}}`,
	"recursive":          `{{define "tree"}}{{if .}}{{icache "tree" (len .)}}({{index . 0}} {{template "tree" (slice . 1)}}){{endicache}}{{end}}{{end}}{{template "tree" .List}}<p title="{{template "tree" .List}}"><script>"{{template "tree" .List}}"</script>`,
}

// tag matches the tag, for html/template, which does not know it.
var tag = regexp.MustCompile(`\{\{(?:(-\s*)?icache .*?(\s*-)?|(-\s*)?endicache(\s*-)?)\}\}`)

// withoutTag leaves a comment with the same trim markers, since two texts side
// by side are not always escaped like one.
func withoutTag(s string) string {
	return tag.ReplaceAllStringFunc(s, func(s string) string {
		in := s[2 : len(s)-2]
		left, right := "", ""
		if strings.HasPrefix(in, "- ") {
			left = "- "
		}
		if strings.HasSuffix(in, " -") {
			right = " -"
		}
		return "{{" + left + "/* */" + right + "}}"
	})
}

func TestEscaping(t *testing.T) {
	t.Parallel()
	for name, text := range escapeCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want strings.Builder
			err := htmltemplate.Must(htmltemplate.New("t").Parse(withoutTag(text))).Execute(&want, hostile)
			require.NoError(t, err, withoutTag(text))
			require.NotContains(t, withoutTag(text), "icache")

			uncached := execute(context.Background(), t, template.Must(template.New("t").Parse(text)), hostile)
			require.Equal(t, want.String(), uncached, "without a cache")

			ctx, events := tmpltest.Record(t.Context())
			tmpl := template.Must(template.New("t").Parse(text)).Cache(tmpltest.Cache(t))
			require.Equal(t, want.String(), execute(ctx, t, tmpl, hostile), "on a miss")
			require.NotContains(t, strings.Join(events.Outcomes(), " "), "skipped")
			require.Equal(t, want.String(), execute(ctx, t, tmpl, hostile), "on a hit")
			for _, outcome := range events.Outcomes() {
				require.Contains(t, outcome, ": hit")
			}
		})
	}
}

func execute(ctx context.Context, t *testing.T, tmpl *template.Template, data any) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, tmpl.ExecuteContext(ctx, &b, data))
	return b.String()
}
