package template_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/tmpl/html/template"
)

// TestErrors is a list of mistakes and what is said about them.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"not closed", "a\n  {{icache \"n\"}}\nb",
			`template: page.html:2:4: {{icache "n"}} is not closed: {{endicache}} is missing in the same branch`},
		{"outer not closed", "{{icache \"o\"}}\n{{icache \"i\"}}{{endicache}}",
			`template: page.html:1:2: {{icache "o"}} is not closed: {{endicache}} is missing in the same branch`},
		{"not opened", "a\n{{endicache}}",
			`template: page.html:2:2: {{endicache}} without {{icache}} before it in the same branch`},
		{"across if", "{{if .}}\n{{icache \"n\"}}{{end}}{{endicache}}",
			`template: page.html:2:2: {{icache "n"}} is not closed: {{endicache}} is missing in the same branch`},
		{"closed in if", "{{icache \"n\"}}{{if .}}\n {{endicache}}{{end}}",
			`template: page.html:2:3: {{endicache}} without {{icache}} before it in the same branch`},
		{"across else", "{{if .}}{{icache \"n\"}}{{else}}{{endicache}}{{end}}",
			`template: page.html:1:10: {{icache "n"}} is not closed: {{endicache}} is missing in the same branch`},
		{"across define", "{{icache \"n\"}}{{define \"x\"}}{{endicache}}{{end}}",
			`template: page.html:1:2: {{icache "n"}} is not closed: {{endicache}} is missing in the same branch`},
		{"no name", "\n{{ icache }}{{endicache}}",
			`template: page.html:2:3: {{icache}} needs the name of the fragment: {{icache "name" "token" …}}`},
		{"end with arguments", "{{icache \"n\"}}{{endicache \"n\"}}",
			`template: page.html:1:16: {{endicache}} takes no arguments`},
		{"in a pipeline", "{{icache \"n\" | len}}{{endicache}}",
			`template: page.html:1:2: icache stands alone in its action: {{icache …}} … {{endicache}}`},
		{"in if", "{{if icache \"n\"}}{{end}}",
			`template: page.html:1:5: icache stands alone in its action: {{icache …}} … {{endicache}}`},
		{"in with else", "{{with 1}}{{else with icache \"n\"}}{{end}}",
			`template: page.html:1:22: icache stands alone in its action: {{icache …}} … {{endicache}}`},
		{"assigned", "{{$x := icache \"n\"}}{{endicache}}",
			`template: page.html:1:8: icache stands alone in its action: {{icache …}} … {{endicache}}`},
		{"as an argument", "{{print (endicache)}}",
			`template: page.html:1:9: endicache stands alone in its action: {{icache …}} … {{endicache}}`},
		{"in an argument", "{{icache \"n\" (icache \"m\")}}{{endicache}}",
			`template: page.html:1:14: icache stands alone in its action: {{icache …}} … {{endicache}}`},
		{"vary outside", "{{vary 1}}",
			`template: page.html:1:2: (vary …) is an argument of {{icache}}: {{icache "name" (vary .Lang)}}`},
		{"vary first", "{{icache (vary 1)}}{{endicache}}",
			`template: page.html:1:10: the first argument of {{icache}} names the fragment and cannot be (vary …)`},
		{"break", "{{range .}}\n{{icache \"n\"}}{{if .}}{{break}}{{end}}{{endicache}}{{end}}",
			`template: page.html:2:24: {{break}} leaves an {{icache}} block: on a hit it would not happen; move the block into or around the {{range}}`},
		{"continue", "{{range .}}{{icache \"n\"}}{{range .}}{{continue}}{{end}}{{continue}}{{endicache}}{{end}}",
			`template: page.html:1:57: {{continue}} leaves an {{icache}} block: on a hit it would not happen; move the block into or around the {{range}}`},
		{"assignment", "{{$x := 1}}{{icache \"n\"}}\n{{$x = 2}}{{endicache}}",
			`template: page.html:2:2: the {{icache}} block assigns to $x, which is declared outside of it: on a hit that would not happen`},
		{"assignment by range", "{{$x := 1}}{{icache \"n\"}}{{range $x = .}}{{end}}{{endicache}}",
			`template: page.html:1:33: the {{icache}} block assigns to $x, which is declared outside of it: on a hit that would not happen`},
		{"assignment in inner block", "{{icache \"o\"}}{{$x := 1}}{{icache \"n\"}}{{$x = 2}}{{endicache}}{{endicache}}",
			`template: page.html:1:41: the {{icache}} block assigns to $x, which is declared outside of it: on a hit that would not happen`},
		{"variable after its block", "{{icache \"n\"}}{{$x := 1}}{{endicache}}\n{{print ($x)}}",
			`template: page.html:2:9: undefined variable "$x": it is declared in an {{icache}} block and ends with it`},
		{"the parser's own", "a\n{{nofunc}}",
			`template: page.html:2: function "nofunc" not defined`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := template.New("page.html").Parse(tt.text)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// TestAllowed is a list of what looks like those mistakes and is none.
func TestAllowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, tt := range map[string]struct{ text, want string }{
		"break inside":             {`{{icache "n"}}{{range .}}{{.}}{{break}}{{end}}{{endicache}}`, "1"},
		"break after a block":      {`{{range .}}{{icache "n" .}}{{.}}{{endicache}}{{break}}{{end}}`, "1"},
		"assignment inside":        {`{{icache "n"}}{{$x := 1}}{{$x = 2}}{{$x}}{{range .}}{{$x = .}}{{end}}{{$x}}{{endicache}}`, "22"},
		"assignment around":        {`{{$x := 0}}{{range .}}{{$x = .}}{{icache "n" $x}}{{$x}}{{endicache}}{{end}}`, "12"},
		"same name again":          {`{{icache "n"}}{{$x := 1}}{{$x}}{{endicache}}{{$x := 2}}{{$x}}`, "12"},
		"words in strings":         {"{{icache `{{endicache}}` \"{{icache}}\"}}{{\"{{endicache}}\"}}{{endicache}}", "{{endicache}}"},
		"words in comments":        {`{{/* {{icache}} */}}{{icache "n"}}a{{- /* {{endicache}} */ -}}b{{endicache}}`, "ab"},
		"words in text":            {`icache endicache {icache} {{icache "n"}} endicache } {{endicache}}`, "icache endicache {icache}  endicache } "},
		"fields of that name":      {`{{define "x"}}{{.icache}}{{.vary.endicache}}{{end}}ok`, "ok"},
		"over several lines":       {"{{icache\n  `n`\n  (vary 1\n   2)\n}}a{{\nendicache\n}}b", "ab"},
		"block in every branch":    {`{{if .}}{{icache "a"}}a{{endicache}}{{else}}{{icache "b"}}b{{endicache}}{{end}}`, "a"},
		"blocks side by side":      {`{{icache "a"}}1{{endicache}}{{icache "a"}}2{{endicache}}`, "12"},
		"define in between":        {`{{icache "a"}}1{{define "q"}}x{{end}}{{template "q"}}{{endicache}}`, "1x"},
		"name from data":           {`{{range .}}{{icache (printf "n%d" .)}}{{.}}{{endicache}}{{end}}`, "12"},
		"parenthesised pipes":      {`{{icache "n" (len .) (index . 0 | printf "%d")}}{{len .}}{{endicache}}`, "2"},
		"a block within its entry": {`{{define "r"}}{{icache "r"}}({{if .}}{{template "r" (slice . 1)}}{{end}}){{endicache}}{{end}}{{template "r" .}}`, "((()))"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := b.parse(t, tt.text)
			for range 2 {
				require.Equal(t, tt.want, execute(t.Context(), t, page, []int{1, 2}))
			}
		})
	}
}

func TestExecutionErrors(t *testing.T) {
	t.Parallel()
	var nilInt *int
	for _, tt := range []struct {
		name, text string
		data       any
		want       string
	}{
		{"nil token", "\n {{icache \"n\" .User}}{{endicache}}", map[string]any{},
			`template: page:2:3: executing "page" at <icache "n" .User>: error calling icache: fragment "n": argument 2 (.User) is nil`},
		{"nil pointer", `{{icache "n" "t" .P}}{{endicache}}`, map[string]any{"P": nilInt},
			`fragment "n": argument 3 (.P) is a nil *int`},
		{"empty token", `{{icache "n" .S}}{{endicache}}`, map[string]any{"S": ""},
			`fragment "n": argument 2 (.S) is empty: a token needs a name (what is no token goes into vary)`},
		{"struct", `{{icache "n" .S}}{{endicache}}`, map[string]any{"S": struct{}{}},
			`fragment "n": argument 2 (.S) is a struct {}: want a string, a number, or a type with String or MarshalText`},
		{"nil in vary", `{{icache "n" (vary 1 .S)}}{{endicache}}`, map[string]any{},
			`fragment "n": argument 2 (vary 1 .S) value 2 is nil`},
		{"name is no string", `{{icache .S}}{{endicache}}`, map[string]any{"S": 3},
			`argument 1 (.S) names the fragment: want a string, not a int`},
		{"empty name", `{{icache .S "t"}}{{endicache}}`, map[string]any{"S": ""},
			`fragment "": argument 1 (.S) is empty: a fragment needs a name`},
		{"error in the body", "{{icache \"n\"}}\n<b>\n  {{.S.Missing}}{{endicache}}", map[string]any{"S": 3},
			`template: page:3:6: executing "page" at <.S.Missing>: can't evaluate field Missing in type interface {}`},
		{"another context", "<p>\n{{icache \"n\"}}<script>{{endicache}}", nil,
			`html/template:page:2:2: the {{icache}} block ends in another context than it begins in:`},
		{"another context in a called one", "{{define \"x\"}}\n{{icache \"n\"}}\">{{endicache}}{{end}}<p title=\"{{template \"x\"}}", nil,
			`html/template:page:2:2: the {{icache}} block ends in another context than it begins in:`},
		{"another context of an if", "<p>\n{{if .}}<script>{{end}}{{icache \"n\"}}{{endicache}}", nil,
			`html/template:page:2:5: {{if}} branches end in different contexts:`},
		{"no such template", `{{icache "n"}}{{template "x"}}{{endicache}}`, nil,
			`html/template:page:1:25: no such template "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			page := template.Must(template.New("page").Parse(tt.text))
			for range 2 {
				require.ErrorContains(t, page.Execute(io.Discard, tt.data), tt.want)
			}
		})
	}
}
