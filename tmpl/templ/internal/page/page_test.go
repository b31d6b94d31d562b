package page_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	icachetempl "github.com/icache-go/icache-agent/tmpl/templ"
	"github.com/icache-go/icache-agent/tmpl/templ/internal/page"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// TestGenerated runs what templ makes of the syntax in the package comment.
func TestGenerated(t *testing.T) {
	t.Parallel()
	ctx, events := tmpltest.Record(t.Context())
	cache := tmpltest.Cache(t)
	f := icachetempl.New(icachetempl.Config{Cache: cache})
	loads := 0
	load := func(ctx context.Context) []string {
		loads++
		icache.Depend(ctx, "loaded")
		return []string{"Ran", "<&>"}
	}
	for range 3 {
		var out strings.Builder
		require.NoError(t, page.Movies(f, 7, load).Render(ctx, &out))
		require.Equal(t, `<ol><li title="Ran">Ran</li><li title="&lt;&amp;&gt;">&lt;&amp;&gt;</li></ol>`, out.String())
	}
	require.Equal(t, 1, loads)
	require.NoError(t, cache.Incr(ctx, "loaded"))
	require.NoError(t, page.Movies(f, 7, load).Render(ctx, new(strings.Builder)))
	require.Equal(t, 2, loads)
	const n = "movies-personal-rating: "
	require.Equal(t, []string{n + "miss", n + "hit", n + "hit", n + "miss"}, events.Outcomes())
}
