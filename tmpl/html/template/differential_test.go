package template_test

import (
	"context"
	"fmt"
	htmltemplate "html/template"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl/html/template"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

// TestDifferential renders random templates with random data four times: by
// html/template without the tag, then here without a cache, on a miss and on a
// hit. The outputs must be the same. Here may refuse what html/template accepts (a body that
// ends in another context), not the other way round.
func TestDifferential(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	prefix := servertest.Prefix(t)
	run, rendered, refused := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		text := (&generator{t: rt}).page()
		data := drawData(rt)
		data["Run"] = fmt.Sprint(prefix, run)

		var want strings.Builder
		plain, err := htmltemplate.New("page").Parse(withoutTag(text))
		if err == nil {
			err = plain.Execute(&want, data)
		}
		page, ourErr := template.New("page").Parse(text)
		if ourErr == nil {
			ourErr = page.Execute(io.Discard, data)
		}
		if ourErr != nil {
			refused++
			if err == nil && !strings.Contains(ourErr.Error(), "block ends in another context") && !strings.Contains(ourErr.Error(), "ambig") {
				rt.Fatalf("html/template takes it, we say %v:\n%s", ourErr, text)
			}
			return
		}
		if err != nil {
			rt.Fatalf("we take it, html/template says %v:\n%s", err, text)
		}
		rendered++
		var uncached strings.Builder
		if err := page.Execute(&uncached, data); err != nil || uncached.String() != want.String() {
			rt.Fatalf("without a cache: %v\n%q\nwant\n%q\n%s", err, uncached.String(), want.String(), text)
		}
		page.Cache(cache)
		for _, when := range []string{"miss", "hit", "hit"} {
			ctx, events := tmpltest.Record(context.Background())
			var got strings.Builder
			if err := page.ExecuteContext(ctx, &got, data); err != nil || got.String() != want.String() {
				rt.Fatalf("%s: %v\n%q\nwant\n%q\n%s", when, err, got.String(), want.String(), text)
			}
			for _, e := range events.Events() {
				if when == "hit" && e.Outcome != icache.Hit {
					rt.Fatalf("%v instead of a hit:\n%s", e, text)
				}
			}
		}
	})
	t.Logf("%d rendered, %d refused", rendered, refused)
	require.Greater(t, rendered, refused, "the generator makes too much that cannot be rendered")
}

// generator draws templates. Blocks take as arguments the run and the loop
// variables, which is all that their bodies depend on.
type generator struct {
	t     *rapid.T
	loops []string // index variables of the loops around
	depth int
	calls []string // values that may be called
	pages []string // whole templates that may be called
}

func (g *generator) pick(what string, n int) int { return rapid.IntRange(0, n-1).Draw(g.t, what) }

func (g *generator) page() string {
	var b strings.Builder
	for i := range 2 {
		name := fmt.Sprint("value", i)
		fmt.Fprintf(&b, "{{define %q}}%s{{end}}", name, g.some(g.value))
		g.calls = append(g.calls, name)
	}
	for i := range 2 {
		name := fmt.Sprint("part", i)
		fmt.Fprintf(&b, "{{define %q}}%s{{end}}", name, g.some(g.text))
		g.pages = append(g.pages, name)
	}
	return b.String() + g.some(g.text) + g.some(g.text)
}

func (g *generator) some(one func() string) string {
	var b strings.Builder
	for range g.pick("pieces", 4) {
		b.WriteString(one())
	}
	return b.String()
}

// block wraps what one makes in the tag, sometimes.
func (g *generator) block(one func() string) string {
	if g.depth > 4 || g.pick("block", 2) == 0 {
		return g.some(one)
	}
	g.depth++
	defer func() { g.depth-- }()
	trim := [][2]string{{"", ""}, {"- ", ""}, {"", " -"}, {"- ", " -"}}
	open, end := trim[g.pick("trim", 4)], trim[g.pick("trim", 4)]
	return fmt.Sprintf(`{{%sicache "n%d" $.Run%s%s}}%s{{%sendicache%s}}`, open[0], g.pick("name", 2), strings.Join(g.loops, ""), open[1], g.some(one), end[0], end[1])
}

// branch wraps what one makes in control structures, or in a block.
func (g *generator) branch(one func() string) string {
	if g.depth > 4 {
		return one()
	}
	g.depth++
	defer func() { g.depth-- }()
	switch g.pick("branch", 6) {
	case 0:
		return fmt.Sprintf("{{if .Yes}}%s{{else}}%s{{end}}", g.block(one), g.block(one))
	case 1:
		return fmt.Sprintf("{{with $w%d := .S}}%s{{end}}", g.depth, strings.ReplaceAll(g.block(one), "{{.", "{{$."))
	case 2:
		i := fmt.Sprintf("$i%d", g.depth)
		g.loops = append(g.loops, " "+i)
		body := g.block(one)
		g.loops = g.loops[:len(g.loops)-1]
		return fmt.Sprintf("{{range %s, $e%d := $.List}}%s{{end}}", i, g.depth, strings.ReplaceAll(body, "{{.", "{{$."))
	default:
		return g.block(one)
	}
}

func (g *generator) action() string {
	list := []string{"{{.S}}", "{{.N}}", "{{.List}}", "{{.Map}}", "{{.HTML}}", "{{.Bool}}", "{{.S | printf \"%q\"}}", "{{- .S}}", "{{.S -}}", "{{/* note */}}", "{{$x := .N}}{{$x}}"}
	return list[g.pick("action", len(list))]
}

// value makes what may stand in any context.
func (g *generator) value() string {
	switch g.pick("value", 5) {
	case 0:
		return g.branch(g.value)
	case 1:
		if len(g.calls) > 0 {
			return fmt.Sprintf("{{template %q $}}", g.calls[g.pick("call", len(g.calls))])
		}
		return g.action()
	default:
		return g.action()
	}
}

func (g *generator) words() string {
	list := []string{" ", "a", "a b\n", "1", "é", "&amp;", " < ", "{", "}", "\t", "icache"}
	return list[g.pick("words", len(list))]
}

func (g *generator) text() string {
	if g.depth > 4 {
		return g.words()
	}
	g.depth++
	defer func() { g.depth-- }()
	value := func() string { return g.branch(g.value) }
	switch g.pick("text", 16) {
	case 0, 1:
		return g.branch(g.text)
	case 2:
		return g.words()
	case 3:
		return g.value()
	case 4:
		return "<p title=\"" + g.some(g.inString) + "\">" + g.some(g.text) + "</p>"
	case 5:
		return "<p title='" + value() + "' id=" + value() + "x>"
	case 6:
		return "<a href=\"" + []string{"", "/x/", "/x?q=", "?a=b&amp;c="}[g.pick("url", 4)] + value() + "\">" + value() + "</a>"
	case 7:
		return "<script>var x = " + value() + ";" + g.some(g.statement) + "</script>"
	case 8:
		return "<a onclick=\"f(" + value() + ")\" data-x=\"" + value() + "\">"
	case 9:
		return "<style>p { color: " + value() + " }</style>"
	case 10:
		return "<title>" + g.some(g.inString) + "</title>"
	case 11:
		return "<textarea>" + value() + "</textarea>"
	case 12:
		return "<!-- " + value() + " -->"
	case 13:
		return "<p " + g.block(func() string { return []string{"hidden ", "id=\"x\" ", "title=\"{{.S}}\" "}[g.pick("attr", 3)] }) + ">"
	default:
		if len(g.pages) > 0 {
			return fmt.Sprintf("{{template %q $}}", g.pages[g.pick("page", len(g.pages))])
		}
		return g.value()
	}
}

func (g *generator) inString() string {
	if g.pick("in string", 2) == 0 {
		return []string{" ", "a", "&lt;", "1"}[g.pick("word", 4)]
	}
	return g.branch(g.value)
}

func (g *generator) statement() string {
	value := func() string { return g.branch(g.value) }
	switch g.pick("statement", 5) {
	case 0:
		return "f(" + value() + ");"
	case 1:
		return "s = \"" + value() + "\";"
	case 2:
		return "s = '" + value() + "';\n"
	case 3:
		return "s = `" + value() + "`;"
	default:
		return g.branch(g.statement)
	}
}

func drawData(t *rapid.T) map[string]any {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("ab 01<>&\"'`/\\=?#%:;{}()[]+-\n\u2028é☃\x00")), 0, 12, -1)
	return map[string]any{
		"S":    text.Draw(t, "S"),
		"N":    rapid.IntRange(-5, 500).Draw(t, "N"),
		"List": rapid.SliceOfN(text, 0, 3).Draw(t, "List"),
		"Map":  map[string]any{text.Draw(t, "key"): text.Draw(t, "val"), "n": nil, "f": 0.5},
		"HTML": htmltemplate.HTML("<i>" + text.Draw(t, "HTML")),
		"Bool": rapid.Bool().Draw(t, "Bool"),
		"Yes":  rapid.Bool().Draw(t, "Yes"),
	}
}
