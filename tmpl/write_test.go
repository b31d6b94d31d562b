package tmpl_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func say(s string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	ctx, events := tmpltest.Record(t.Context())
	write := func(s string, args ...any) string {
		var out strings.Builder
		require.NoError(t, tmpl.Write(ctx, &out, cache, "top", args, say(s)))
		return out.String()
	}
	require.Equal(t, "one", write("one", "movies", 7))
	require.Equal(t, "one", write("two", "movies", 7))
	require.Equal(t, "en", write("en", "movies", 7, tmpl.Vary("en")))
	require.NoError(t, cache.Incr(ctx, "movies"))
	require.Equal(t, "three", write("three", "movies", 7))
	require.NoError(t, cache.Incr(ctx, "top"))
	require.Equal(t, "four", write("four", "movies", 7))
	require.Equal(t, []string{"top: miss", "top: hit", "top: miss", "top: miss", "top: miss"}, events.Outcomes())
}

func TestWriteFails(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	ctx := t.Context()
	bad := errors.New("bad")
	var out strings.Builder
	require.ErrorIs(t, tmpl.Write(ctx, &out, cache, "n", nil, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "partial")
		return errors.Join(err, bad)
	}), bad)
	require.Empty(t, out.String())
	require.PanicsWithValue(t, "bomb", func() {
		_ = tmpl.Write(ctx, &out, cache, "n", nil, func(context.Context, io.Writer) error { panic("bomb") })
	})
	require.NoError(t, tmpl.Write(ctx, &out, cache, "n", nil, say("fine")))
	require.Equal(t, "fine", out.String())

	var bad2 *tmpl.ArgError
	require.ErrorAs(t, tmpl.Write(ctx, &out, cache, "n", []any{"t", nil}, say("")), &bad2)
	require.Equal(t, 3, bad2.Index)
	require.EqualError(t, bad2, `fragment "n": argument 3 is nil`)
}

func TestWriteNested(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	ctx, events := tmpltest.Record(t.Context())
	n := 0
	page := func() string {
		var out strings.Builder
		require.NoError(t, tmpl.Write(ctx, &out, cache, "outer", nil, func(ctx context.Context, w io.Writer) error {
			n++
			if _, err := fmt.Fprint(w, n, "("); err != nil {
				return err
			}
			if err := tmpl.Write(ctx, w, cache, "inner", []any{"movie:1"}, say("i")); err != nil {
				return err
			}
			_, err := io.WriteString(w, ")")
			return err
		}))
		return out.String()
	}
	require.Equal(t, "1(i)", page())
	require.Equal(t, "1(i)", page())
	require.Equal(t, []string{"inner: miss", "outer: miss", "outer: hit"}, events.Outcomes())
	require.NoError(t, cache.Incr(ctx, "movie:1"))
	require.Equal(t, "2(i)", page())
	require.NoError(t, cache.Incr(ctx, "outer"))
	require.Equal(t, "3(i)", page())
	require.NoError(t, cache.Incr(ctx, "movie:1"))
	require.Equal(t, "4(i)", page(), "the outer fragment depends on an inner one that was a hit")
}

func TestWriteOptions(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	ctx, events := tmpltest.Record(t.Context())
	write := func(f tmpl.Fragment, s string) string {
		var out strings.Builder
		require.NoError(t, tmpl.WriteFragment(ctx, &out, cache, f, say(s)))
		return out.String()
	}
	require.Equal(t, "a", write(tmpl.Fragment{Name: "n", Digest: "1"}, "a"))
	require.Equal(t, "b", write(tmpl.Fragment{Name: "n", Digest: "2"}, "b"))
	require.Equal(t, "a", write(tmpl.Fragment{Name: "n", Digest: "1"}, "c"))
	require.Equal(t, "d", write(tmpl.Fragment{Name: "n", Digest: "1", Options: []icache.FetchOption{icache.Vary("x")}}, "d"))
	require.Len(t, events.Events(), 4)
}

func TestWriteCollection(t *testing.T) {
	t.Parallel()
	c, other, trips := tmpltest.Processes(t)
	tmpltest.Collection(t, c, other, trips, func(ctx context.Context, movies []tmpltest.Movie) (string, error) {
		var out strings.Builder
		err := tmpl.Write(ctx, &out, c, "list", nil, func(ctx context.Context, w io.Writer) error {
			for _, m := range movies {
				if err := tmpl.Write(ctx, w, c, "row", []any{m.Token()}, say(m.Title+";")); err != nil {
					return err
				}
			}
			return nil
		})
		return out.String(), err
	})
}
