package icachetempl_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/a-h/templ"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	icachetempl "github.com/icache-go/icache-agent/tmpl/templ"
)

// TestDifferential renders random pages, whole and some fragments of them,
// without a cache and with it. The outputs must be the same.
func TestDifferential(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	prefix, run, hits := servertest.Prefix(t), 0, 0
	plain, cached := icachetempl.New(icachetempl.Config{}), icachetempl.New(icachetempl.Config{Cache: cache})
	rapid.Check(t, func(rt *rapid.T) {
		run++
		g := &generator{t: rt, prefix: fmt.Sprint(prefix, run), once: []*templ.OnceHandle{templ.NewOnceHandle(), templ.NewOnceHandle()}}
		page := g.some()
		selected := rapid.SampledFrom([][]any{nil, nil, {"f0"}, {"f1", "f0"}})
		for i := range 4 {
			ids := selected.Draw(rt, "fragments")
			render := func(f *icachetempl.Fragments) string {
				ctx, events := tmpltest.Record(context.Background())
				var b strings.Builder
				var err error
				if ids == nil {
					err = page(f).Render(ctx, &b)
				} else {
					err = templ.RenderFragments(ctx, &b, page(f), ids...)
				}
				if err != nil {
					rt.Fatal(err)
				}
				for _, e := range events.Events() {
					if e.Outcome == icache.Hit {
						hits++
					}
				}
				return b.String()
			}
			if want, got := render(plain), render(cached); got != want {
				rt.Fatalf("rendering %d of %v:\n%q\nwant\n%q\n%s", i, ids, got, want, g.log.String())
			}
		}
	})
	require.Positive(t, hits)
}

// generator draws components, as functions of what caches their blocks. What
// they show does not change, so each block has a name of its own and no tokens.
type generator struct {
	t             *rapid.T
	prefix        string
	once          []*templ.OnceHandle
	blocks, depth int
	log           strings.Builder // what was drawn
}

type component func(f *icachetempl.Fragments) templ.Component

func (g *generator) pick(what string, n int) int { return rapid.IntRange(0, n-1).Draw(g.t, what) }

func (g *generator) some() component {
	list := make([]component, 1+g.pick("pieces", 3))
	for i := range list {
		list[i] = g.piece()
	}
	return func(f *icachetempl.Fragments) templ.Component {
		parts := make([]templ.Component, len(list))
		for i, c := range list {
			parts[i] = c(f)
		}
		return seq(parts...)
	}
}

func (g *generator) piece() component {
	kind := 0
	if g.depth < 5 {
		kind = g.pick("piece", 8)
	}
	n := g.pick("which", 2)
	fmt.Fprintf(&g.log, "%*s%d.%d\n", g.depth, "", kind, n)
	g.depth++
	defer func() { g.depth-- }()
	switch kind {
	case 1, 2, 3:
		g.blocks++
		name, inner := fmt.Sprint(g.prefix, "-", g.blocks), g.some()
		return func(f *icachetempl.Fragments) templ.Component {
			if n == 0 {
				return f.Wrap(inner(f), name)
			}
			return with(f.Cached(name), inner(f))
		}
	case 4:
		inner := g.some()
		return func(f *icachetempl.Fragments) templ.Component { return with(g.once[n].Once(), inner(f)) }
	case 5:
		inner := g.some()
		return func(f *icachetempl.Fragments) templ.Component {
			return with(templ.Fragment(fmt.Sprint("f", n)), inner(f))
		}
	case 6:
		class := templ.ComponentCSSClass{ID: fmt.Sprint("c", n), Class: templ.SafeCSS(fmt.Sprintf(".c%d{}", n))}
		return func(*icachetempl.Fragments) templ.Component {
			return fn(func(ctx context.Context, w io.Writer) error {
				return templ.RenderCSSItems(templ.InitializeContext(ctx), w, class)
			})
		}
	case 7:
		script := templ.ComponentScript{Name: fmt.Sprint("s", n), Function: fmt.Sprintf("function s%d(){}", n)}
		return func(*icachetempl.Fragments) templ.Component {
			return fn(func(ctx context.Context, w io.Writer) error {
				return templ.RenderScriptItems(templ.InitializeContext(ctx), w, script)
			})
		}
	default:
		return func(*icachetempl.Fragments) templ.Component { return text(fmt.Sprint("t", n, " ")) }
	}
}
