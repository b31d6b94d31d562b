package icachetempl_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/a-h/templ"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	icachetempl "github.com/icache-go/icache-agent/tmpl/templ"
)

func TestMain(m *testing.M) { servertest.Main(m) }

type fn = templ.ComponentFunc

// text writes s. seq renders in order. with renders c with children, as
// generated code does for @c { … }.
func text(s string) templ.Component {
	return fn(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	})
}

func seq(list ...templ.Component) templ.Component {
	return fn(func(ctx context.Context, w io.Writer) error {
		ctx = templ.ClearChildren(templ.InitializeContext(ctx))
		for _, c := range list {
			if err := c.Render(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
}

func with(c templ.Component, children ...templ.Component) templ.Component {
	return fn(func(ctx context.Context, w io.Writer) error {
		return c.Render(templ.WithChildren(templ.InitializeContext(ctx), seq(children...)), w)
	})
}

func render(ctx context.Context, t *testing.T, c templ.Component) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, c.Render(ctx, &b))
	return b.String()
}

func setup(t *testing.T) (context.Context, *icache.Cache, *icachetempl.Fragments, *tmpltest.Recorder) {
	t.Helper()
	ctx, events := tmpltest.Record(t.Context())
	cache := tmpltest.Cache(t)
	return ctx, cache, icachetempl.New(icachetempl.Config{Cache: cache}), events
}

func TestCached(t *testing.T) {
	t.Parallel()
	ctx, cache, f, events := setup(t)
	page := func(s string) templ.Component {
		return seq(text("<"), with(f.Cached("top", "movies", 7, tmpl.Vary("en")), text(s)), text(">"))
	}
	require.Equal(t, "<a>", render(ctx, t, page("a")))
	require.Equal(t, "<a>", render(ctx, t, page("b")))
	require.NoError(t, cache.Incr(ctx, "movies"))
	require.Equal(t, "<c>", render(ctx, t, page("c")))
	require.Equal(t, "<c>", render(ctx, t, seq(text("<"), f.Wrap(text("d"), "top", "movies", 7, tmpl.Vary("en")), text(">"))))
	require.Equal(t, []string{"top: miss", "top: hit", "top: miss", "top: hit"}, events.Outcomes())

	other := icachetempl.New(icachetempl.Config{Cache: cache, Version: "v2"})
	require.Equal(t, "e", render(ctx, t, with(other.Cached("top", "movies", 7, tmpl.Vary("en")), text("e"))))
}

func TestNested(t *testing.T) {
	t.Parallel()
	ctx, cache, f, events := setup(t)
	page := func(s string) templ.Component {
		return with(f.Cached("list"), text("("), with(f.Cached("row", "movie:1"), text(s)), fn(func(ctx context.Context, w io.Writer) error {
			icache.Depend(ctx, "depended")
			return nil
		}), text(")"))
	}
	require.Equal(t, "(a)", render(ctx, t, page("a")))
	require.Equal(t, "(a)", render(ctx, t, page("b")))
	require.NoError(t, cache.Incr(ctx, "movie:1"))
	require.Equal(t, "(c)", render(ctx, t, page("c")))
	require.NoError(t, cache.Incr(ctx, "depended"))
	require.Equal(t, "(c)", render(ctx, t, page("d")))
	require.Equal(t, []string{"row: miss", "list: miss", "list: hit", "row: miss", "list: miss", "row: hit", "list: miss"}, events.Outcomes())
}

func TestFails(t *testing.T) {
	t.Parallel()
	ctx, _, f, _ := setup(t)
	bad := errors.New("bad")
	var out strings.Builder
	err := seq(text("a"), with(f.Cached("n"), text("partial"), fn(func(context.Context, io.Writer) error { return bad }))).Render(ctx, &out)
	require.ErrorIs(t, err, bad)
	require.Equal(t, "a", out.String())
	require.Equal(t, "fine", render(ctx, t, with(f.Cached("n"), text("fine"))))
	require.ErrorContains(t, f.Cached("n", nil).Render(ctx, io.Discard), `fragment "n": argument 2 is nil`)
}

// TestRenderFragments: whether a page or a part of it is rendered first, both
// are what they would be without the cache.
func TestRenderFragments(t *testing.T) {
	t.Parallel()
	for order := range 2 {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			t.Parallel()
			ctx, _, f, events := setup(t)
			page := with(f.Cached("page"), text("<head>"), with(templ.Fragment("middle"), text("<middle>"), with(f.Cached("inner"), text("<inner>"))), text("<foot>"))
			part := func() string {
				var b strings.Builder
				require.NoError(t, templ.RenderFragments(ctx, &b, page, "middle"))
				return b.String()
			}
			for i := range 6 {
				if i%2 == order {
					require.Equal(t, "<head><middle><inner><foot>", render(ctx, t, page))
				} else {
					require.Equal(t, "<middle><inner>", part())
				}
			}
			outcomes := events.Outcomes()
			require.Contains(t, outcomes, "page: hit")
			require.Contains(t, outcomes, "inner: hit")
			require.NotContains(t, outcomes, "page: skipped")
		})
	}
}

// TestOnce: handles, CSS and scripts come once per page, on hits and misses, in
// whatever order pages with and without them come.
func TestOnce(t *testing.T) {
	t.Parallel()
	handle := templ.NewOnceHandle()
	class := templ.ComponentCSSClass{ID: "red", Class: ".red{}"}
	once := map[string]templ.Component{
		"handle": with(handle.Once(), text("[once]")),
		"css": fn(func(ctx context.Context, w io.Writer) error {
			return templ.RenderCSSItems(ctx, w, class)
		}),
		"script": fn(func(ctx context.Context, w io.Writer) error {
			return templ.RenderScriptItems(ctx, w, templ.ComponentScript{Name: "s", Function: "function s(){}"})
		}),
	}
	for name, c := range once {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, _, f, events := setup(t)
			none := icachetempl.New(icachetempl.Config{})
			pages := func(f *icachetempl.Fragments) []templ.Component {
				block := with(f.Cached("n"), text("("), c, text(")"))
				return []templ.Component{seq(block, c), seq(c, block), seq(block, block), seq(with(f.Cached("plain"), text("plain")), block, block)}
			}
			for range 3 {
				for i, page := range pages(f) {
					require.Equal(t, render(t.Context(), t, pages(none)[i]), render(ctx, t, page), i)
				}
			}
			require.Contains(t, events.Outcomes(), "n: hit", "a block after its style has been emitted is cached")
		})
	}
}

func TestNonce(t *testing.T) {
	t.Parallel()
	ctx, _, f, _ := setup(t)
	script := fn(func(ctx context.Context, w io.Writer) error {
		_, err := fmt.Fprintf(w, "<script nonce=%q>", templ.GetNonce(ctx))
		return err
	})
	for _, nonce := range []string{"one", "two"} {
		require.Equal(t, fmt.Sprintf("<script nonce=%q>", nonce), render(templ.WithNonce(ctx, nonce), t, with(f.Cached("n"), script)))
	}
}

func TestWithoutCache(t *testing.T) {
	t.Parallel()
	f := icachetempl.New(icachetempl.Config{})
	require.Equal(t, "a", render(t.Context(), t, with(f.Cached("n"), text("a"))))
	require.Equal(t, "b", render(t.Context(), t, with(f.Cached("n"), text("b"))))
	require.Empty(t, render(t.Context(), t, f.Cached("n")), "no children")
}
