package icachepongo2_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/flosch/pongo2/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	icachepongo2 "github.com/icache-go/icache-agent/tmpl/pongo2"
)

var tag = regexp.MustCompile(`{% (end)?icache[^%]*%}`)

// differential renders random templates without the tag, then with it on a miss
// and on a hit. The outputs must be the same.
func differential(t *testing.T, set *pongo2.TemplateSet) {
	prefix, run := servertest.Prefix(t), 0
	hits := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		text := (&generator{t: rt}).some()
		values := rapid.SampledFrom([]string{"", "<b>&'\"", "plain", "é\n"})
		vars := func(ctx context.Context) pongo2.Context {
			return icachepongo2.Context(ctx, pongo2.Context{"run": fmt.Sprint(prefix, run)})
		}
		s, yes := values.Draw(rt, "s"), rapid.Bool().Draw(rt, "yes")
		list := rapid.SliceOfN(rapid.IntRange(0, 2), 0, 3).Draw(rt, "list")
		render := func(when, text string) string {
			tpl, err := set.FromString(text)
			if err != nil {
				rt.Fatalf("%v\n%s", err, text)
			}
			ctx, events := tmpltest.Record(context.Background())
			all := vars(ctx).Update(pongo2.Context{"s": s, "yes": yes, "list": list})
			out, err := tpl.Execute(all)
			if err != nil {
				rt.Fatalf("%s: %v\n%s", when, err, text)
			}
			for _, e := range events.Events() {
				if when == "hit" && e.Outcome != icache.Hit {
					rt.Fatalf("%v instead of a hit:\n%s", e, text)
				}
				if e.Outcome == icache.Hit {
					hits++
				}
			}
			return out
		}
		want := render("plain", tag.ReplaceAllString(text, ""))
		for _, when := range []string{"miss", "hit", "hit"} {
			if got := render(when, text); got != want {
				rt.Fatalf("%s:\n%q\nwant\n%q\n%s", when, got, want, text)
			}
		}
	})
	require.Positive(t, hits)
}

// generator draws templates. Blocks take as arguments the run and the loop
// variables, which is all that their bodies depend on.
type generator struct {
	t     *rapid.T
	loops []string
	depth int
}

func (g *generator) pick(what string, n int) int { return rapid.IntRange(0, n-1).Draw(g.t, what) }

func (g *generator) some() string {
	var b strings.Builder
	for range 1 + g.pick("pieces", 3) {
		b.WriteString(g.piece())
	}
	return b.String()
}

func (g *generator) piece() string {
	values := append([]string{"s", "s|upper", "s|safe", "yes", "list|length", `"<i>"`, "run|length"}, g.loops...)
	if g.depth > 4 {
		return "{{ " + values[g.pick("value", len(values))] + " }}"
	}
	g.depth++
	defer func() { g.depth-- }()
	switch g.pick("piece", 10) {
	case 0, 1, 2:
		args := ""
		for _, name := range g.loops {
			args += " " + name
		}
		return fmt.Sprintf("{%% icache 'n%d' run%s %%}%s{%% endicache %%}", g.pick("name", 2), args, g.some())
	case 3:
		return "{% if yes %}" + g.some() + "{% else %}" + g.some() + "{% endif %}"
	case 4:
		name := fmt.Sprint("i", g.depth)
		g.loops = append(g.loops, name)
		defer func() { g.loops = g.loops[:len(g.loops)-1] }()
		return "{% for " + name + " in list %}" + g.some() + "{% empty %}none{% endfor %}"
	case 5:
		return "{% autoescape " + []string{"on", "off"}[g.pick("escape", 2)] + " %}" + g.some() + "{% endautoescape %}"
	case 6:
		return "{% with w=s %}{{ w }}" + g.some() + "{% endwith %}"
	case 7:
		return "{% filter lower %}" + g.some() + "{% endfilter %}"
	case 8:
		return []string{" ", "text\n", "<p class='x'>", "{# note #}", "{% comment %}icache{% endcomment %}"}[g.pick("text", 5)]
	default:
		return "{{ " + values[g.pick("value", len(values))] + " }}"
	}
}
