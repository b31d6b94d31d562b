package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/listener"
)

// What was bumped while there may have been two masters is bumped again, once,
// when there is one.
func TestAFailoverIsRepeatedLater(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	o, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	rdb := redis.NewClient(o)
	defer rdb.Close()
	const after = 100 * time.Millisecond
	var replayed, repeated []time.Time
	fail := true
	w := &redisWatch{
		rdb: rdb, every: time.Second, after: after,
		metrics: newMetrics("test", func() listener.Stats { return listener.Stats{} }), log: slog.New(slog.DiscardHandler),
		replay: func(context.Context, string, bool) error { replayed = append(replayed, time.Now()); return nil },
		repeat: func(context.Context) error {
			repeated = append(repeated, time.Now())
			if fail {
				fail = false
				return errors.New("not now")
			}
			return nil
		},
	}
	check := func(until func() bool) {
		t.Helper()
		require.Eventually(t, func() bool { _ = w.check(t.Context()); return until() }, 20*time.Second, 5*time.Millisecond)
	}
	check(func() bool { return w.status().Up })
	require.Empty(t, replayed)
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start(t.Context()))
	check(func() bool { return len(repeated) == 2 })
	require.Len(t, replayed, 1)
	require.GreaterOrEqual(t, repeated[0].Sub(replayed[0]), after)
	ended := time.Now()
	check(func() bool { return time.Since(ended) > 2*after })
	require.Len(t, repeated, 2, "it failed once, and that is that")
}
