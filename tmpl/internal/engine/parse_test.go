package engine

import (
	"context"
	"io"
	"regexp"
	"strings"
	"testing"
	texttemplate "text/template"
	"text/template/parse"

	"github.com/stretchr/testify/require"
)

var textFlavour = Flavour[*texttemplate.Template]{
	Name:   "text",
	New:    texttemplate.New,
	Reword: func(err error) error { return err },
}

// FuzzParse parses arbitrary texts and executes what is harmless. The standard
// library with a tag that prints nothing says what the output has to be.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"a{{icache `n` .A (vary .B)}}b{{.C}}{{endicache}}c",
		"{{- icache \"n\" -}} x {{- endicache -}}",
		"{{icache `o`}}{{icache `i`}}{{endicache}}{{endicache}}",
		"{{if .A}}{{icache `n`}}a{{endicache}}{{else}}b{{end}}{{with .B}}{{.}}{{end}}",
		"{{range .L}}{{icache `n` .}}{{break}}{{endicache}}{{end}}",
		"{{define `x`}}{{icache `n`}}{{endicache}}{{end}}{{template `x` .}}{{block `y` .}}{{endicache}}{{end}}",
		"{{/* {{icache}} */}}{{`{{icache}}`}}{{\"{{endicache}}\"}}{{icache\n`n`\n}}{{endicache}}",
		"{{$x := 1}}{{icache `n` $x}}{{$x = 2}}{{$y := 3}}{{endicache}}{{$y}}",
		"{{icache}}", "{{endicache 1}}", "{{icache | vary}}", "{{(icache `n`).X}}", "{{icache `n` icachectx}}{{endicache}}",
		"\xff{{icache `\xff`}}\x00{{endicache}}", "{{icache `n`}}\r\n{{endicache}}\r\n",
	} {
		f.Add(seed, "", "")
		f.Add(strings.NewReplacer("{{", "<<", "}}", ">>").Replace(seed), "<<", ">>")
	}
	silent := func(...any) string { return "" }
	plainFuncs := texttemplate.FuncMap{openName: silent, closeName: silent, varyName: silent, ctxName: silent}
	runs := regexp.MustCompile(`template|range|block|:=|icachectx|vary|%`)
	position := regexp.MustCompile(`^template: page:\d+(:\d+)?: `)
	data := map[string]any{"A": 1, "B": "b", "C": "<c>", "L": []int{1, 2}}
	f.Fuzz(func(t *testing.T, text, left, right string) {
		plain, plainErr := texttemplate.New("page").Delims(left, right).Funcs(plainFuncs).Parse(text)
		set := NewSet(textFlavour, "page")
		err := set.Parse("page", text, left, right)
		if plainErr != nil {
			require.EqualError(t, err, plainErr.Error(), "the parser's errors are passed on")
			return
		}
		if err != nil {
			require.Regexp(t, position, err.Error())
			return
		}
		for name, src := range set.sources {
			blocks := 0
			eachBlock(src.tree.Root, func(id *parse.NumberNode, body *parse.ListNode) {
				blocks++
				last := body.Nodes[len(body.Nodes)-1].(*parse.IfNode)
				require.Equal(t, "{{if endicache}}{{end}}", last.String())
			})
			require.Len(t, src.blocks, blocks)
			if !strings.Contains(text, openName) {
				require.Equal(t, plain.Lookup(name).Root.String(), src.tree.Root.String())
			}
			_, _ = src.tree.ErrorContext(src.tree.Root)
			for _, b := range src.blocks {
				_, _ = src.tree.Copy().ErrorContext(b.node)
			}
		}
		if runs.MatchString(text) {
			return
		}
		var want, got strings.Builder
		wantErr := plain.Execute(&want, data)
		gotErr := set.Execute(context.Background(), &got, "page", data)
		if wantErr == nil && gotErr == nil {
			require.Equal(t, want.String(), got.String())
		}
		require.False(t, wantErr != nil && gotErr == nil, "%v", wantErr)
	})
}

func TestReservedNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"icache", "endicache", "vary", "icachectx"} {
		require.PanicsWithValue(t, `tmpl: the function name "`+name+`" is reserved for the tag`, func() {
			NewSet(textFlavour, "t").Funcs(texttemplate.FuncMap{name: func() string { return "" }})
		})
	}
	require.Panics(t, func() { NewSet(textFlavour, "t").Funcs(texttemplate.FuncMap{"f": 1}) })
	require.Panics(t, func() { NewSet(textFlavour, "t").Option("nonsense") })
}

// TestInstancesAreReused: an execution after another does not build a copy of
// the set, a change of the set does.
func TestInstancesAreReused(t *testing.T) {
	t.Parallel()
	built := 0
	flavour := textFlavour
	flavour.New = func(name string) *texttemplate.Template {
		built++
		return texttemplate.New(name)
	}
	set := NewSet(flavour, "page")
	require.NoError(t, set.Parse("page", "{{icache `n`}}a{{endicache}}", "", ""))
	for range 5 {
		require.NoError(t, set.Execute(t.Context(), io.Discard, "page", nil))
	}
	require.Equal(t, 1, built)
	require.NoError(t, set.Parse("other", "x", "", ""))
	require.NoError(t, set.Execute(t.Context(), io.Discard, "other", nil))
	require.Equal(t, 2, built)
}
