package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/listener"
)

func TestSplitGroups(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOf(rapid.SampledFrom([]string{"movies", "movie:1", "movie:*", "*", "a:b:*", "a:*", ":*", "x*", ""})).Draw(t, "tokens")
		given := slices.Clone(tokens)
		single, groups := splitGroups(tokens)
		if !slices.Equal(given, tokens) {
			t.Fatal("the argument was changed")
		}
		if len(single)+len(groups) != len(tokens) {
			t.Fatalf("%q became %q and %q", tokens, single, groups)
		}
		for _, token := range tokens {
			isGroup := token == "*" || token == "movie:*" || token == "a:*" || token == ":*"
			if slices.Contains(groups, token) != isGroup || slices.Contains(single, token) == isGroup {
				t.Fatalf("%q became %q and %q", tokens, single, groups)
			}
		}
	})
}

// What is bumped again after a failover may take a scan of all keys, longer than
// a server may take to answer.
func TestBumpingAgainMayTakeLong(t *testing.T) {
	t.Parallel()
	opt, err := redis.ParseURL(servertest.Redis(t))
	require.NoError(t, err)
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	var bounded, called bool
	w := &redisWatch{
		rdb: rdb, every: time.Second, log: slog.New(slog.DiscardHandler),
		metrics: newMetrics("test", func() listener.Stats { return listener.Stats{} }),
		replay: func(ctx context.Context, _ string, _ bool) error {
			called = true
			_, bounded = ctx.Deadline()
			return errors.New("not yet")
		},
	}
	require.NoError(t, w.check(t.Context()))
	w.identity = "another server"
	require.ErrorContains(t, w.check(t.Context()), "not yet")
	require.True(t, called)
	require.False(t, bounded)
	require.Equal(t, "another server", w.identity, "so that the next check tries again")
}
