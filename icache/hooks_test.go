package icache

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// Compute wraps a computation: its context reaches it, and its end takes the
// place of Fetch, for that hook alone.
func TestHooksCompute(t *testing.T) {
	t.Parallel()
	type key struct{}
	var began, ended, fetched, other []Event
	c, _ := newCache(t, WithHooks(Hooks{
		Fetch: func(_ context.Context, e Event) { fetched = append(fetched, e) },
		Compute: func(ctx context.Context, e Event) (context.Context, func(Event)) {
			began = append(began, e)
			return context.WithValue(ctx, key{}, e.Key), func(e Event) { ended = append(ended, e) }
		},
	}), WithHooks(Hooks{Fetch: func(_ context.Context, e Event) { other = append(other, e) }}))
	fetch := func(ctx context.Context, err error) {
		_, got := Fetch(ctx, c, "k", []string{"a"}, func(ctx context.Context) (string, error) {
			require.Equal(t, "k", ctx.Value(key{}))
			Depend(ctx, "b:1")
			return "v", err
		})
		require.Equal(t, err, got)
	}
	ctx := t.Context()
	fetch(ctx, nil)
	fetch(ctx, nil) // a hit
	require.NoError(t, c.Incr(ctx, "b:1"))
	fetch(ctx, errTest)
	fetch(Bypass(ctx), nil)
	require.Len(t, fetched, 1)
	require.Len(t, other, 4)
	require.Len(t, began, 3)
	require.Len(t, ended, 3)
	require.Equal(t, Miss, began[0].Outcome)
	require.Equal(t, WhyAbsent, began[0].Why)
	require.Equal(t, len("v"), ended[0].Bytes)
	require.Equal(t, errTest, ended[1].Err)
	require.Equal(t, WhyBypass, began[2].Why)
	require.Equal(t, uint64(1), c.Stats().Hits)
	require.Equal(t, uint64(1), c.Stats().Misses)

	_, err := FetchMany(ctx, c, []Request{{"m", []string{"a"}}}, func(context.Context, []int) ([]string, error) { return []string{"v"}, nil })
	require.NoError(t, err)
	require.Len(t, began, 3)
	require.Len(t, fetched, 2)
}
