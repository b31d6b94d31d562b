package icache

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// tracked returns a cache with tracking on a server of its own and a second
// one without, and waits for the proof.
func tracked(t *testing.T, maxStale time.Duration, opts ...Option) (c, other *Cache, server *localserver.Redis) {
	t.Helper()
	server = servertest.OwnRedis(t)
	other = cacheOn(t, dial(t, server.URL()))
	c = cacheOn(t, dial(t, server.URL()), append(opts, WithTracking(maxStale))...)
	requireFresh(t, c)
	return c, other, server
}

func requireFresh(t *testing.T, c *Cache) {
	t.Helper()
	require.Eventually(t, c.l1.fresh, 20*time.Second, time.Millisecond)
}

// settle fetches until hits are local.
func settle(t *testing.T, c *Cache, fetch func() string) {
	t.Helper()
	require.Eventually(t, func() bool {
		before := c.Stats().LocalHits
		fetch()
		return c.Stats().LocalHits > before && c.l1.fresh()
	}, 20*time.Second, time.Millisecond)
}

func TestTracking(t *testing.T) {
	t.Parallel()
	c, other, _ := tracked(t, 5*time.Second)
	ctx := t.Context()
	value := "0"
	fetch := func() string {
		got, err := Fetch(ctx, c, "k", []string{"a", "b:1"}, func(ctx context.Context) (string, error) {
			Depend(ctx, "c:1")
			return value, nil
		})
		require.NoError(t, err)
		return got
	}
	settle(t, c, fetch)
	trips := &countTrips{}
	c.redis.reads.AddHook(trips)
	hits := c.Stats().LocalHits
	for range 10 {
		require.Equal(t, "0", fetch())
	}
	require.Equal(t, hits+10, c.Stats().LocalHits)
	for i, token := range []string{"a", "b:1", "b:*", "c:1", "c:*", "*"} {
		value = strconv.Itoa(i)
		if i%2 == 0 {
			require.NoError(t, other.Incr(ctx, token))
			require.Eventually(t, func() bool { return fetch() == value }, 5*time.Second, time.Millisecond, token)
		} else {
			require.NoError(t, c.Incr(ctx, token))
			require.Equal(t, value, fetch(), "one's own increments count at once: %s", token)
		}
		settle(t, c, fetch)
	}

	// An enclosing fragment gets its tokens from here too.
	outer := func() string {
		got, err := Fetch(ctx, c, "outer", nil, func(context.Context) (string, error) { return fetch(), nil })
		require.NoError(t, err)
		return got
	}
	require.Equal(t, value, outer())
	value = "last"
	require.NoError(t, c.Incr(ctx, "c:1"))
	require.Equal(t, "last", fetch())
}

func TestTrackingSurvivesFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(t *testing.T, server *localserver.Redis, rdb *redis.Client){
		"flush": func(t *testing.T, _ *localserver.Redis, rdb *redis.Client) {
			t.Helper()
			require.NoError(t, rdb.FlushAll(context.Background()).Err())
		},
		"connections killed": func(t *testing.T, _ *localserver.Redis, rdb *redis.Client) {
			t.Helper()
			require.NoError(t, rdb.Do(context.Background(), "CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal").Err())
		},
		"restart": func(t *testing.T, server *localserver.Redis, _ *redis.Client) {
			t.Helper()
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start(context.Background()))
		},
		"pause": func(t *testing.T, server *localserver.Redis, _ *redis.Client) {
			t.Helper()
			require.NoError(t, server.Pause())
			time.Sleep(500 * time.Millisecond)
			require.NoError(t, server.Resume())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _, server := tracked(t, 200*time.Millisecond)
			rdb := dial(t, server.URL())
			var value atomic.Int64
			fetch := func() int64 {
				got, err := Fetch(t.Context(), c, "k", []string{"a"}, func(context.Context) (int64, error) { return value.Load(), nil })
				require.NoError(t, err)
				return got
			}
			other := cacheOn(t, rdb)
			for range 3 {
				requireFresh(t, c)
				fetch()
				fetch()
				fault(t, server, rdb)
				value.Add(1)
				require.Eventually(t, func() bool { return other.Incr(t.Context(), "a") == nil }, 20*time.Second, time.Millisecond)
				acked, want := time.Now(), value.Load()
				for time.Since(acked) < 400*time.Millisecond {
					before := time.Since(acked)
					got := fetch()
					if before > 200*time.Millisecond {
						require.Equal(t, want, got, "%v after the acknowledgement", before)
					}
				}
			}
		})
	}
}

// Without proof nothing is served from memory, however healthy things look.
func TestTrackingNeedsProof(t *testing.T) {
	t.Parallel()
	c, other, _ := tracked(t, time.Hour) // one probe, and no other for long
	ctx := t.Context()
	value := "old"
	fetch := func() string {
		got, err := Fetch(ctx, c, "k", []string{"a"}, func(context.Context) (string, error) { return value, nil })
		require.NoError(t, err)
		return got
	}
	settle(t, c, fetch)
	c.l1.proof.Store(c.l1.now() - int64(2*time.Hour))
	hits := c.Stats().LocalHits
	value = "new"
	require.NoError(t, other.Incr(ctx, "a"))
	require.Equal(t, "new", fetch())
	require.Equal(t, hits, c.Stats().LocalHits)
}

func TestTrackingWithGuard(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	rdb := dial(t, server.URL())
	c := cacheOn(t, rdb, WithTracking(50*time.Millisecond), WithGuard())
	ctx := t.Context()
	require.NoError(t, rdb.Set(ctx, c.guardKey(), 1, 2*time.Second).Err())
	requireFresh(t, c)
	fetch := func() string {
		got, err := Fetch(ctx, c, "k", nil, constant("x"))
		require.NoError(t, err)
		return got
	}
	settle(t, c, fetch)
	require.Eventually(t, func() bool { return rdb.Exists(ctx, c.guardKey()).Val() == 0 }, 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return !c.l1.fresh() }, 5*time.Second, time.Millisecond)
	skipped := c.Stats().Skipped
	fetch()
	require.Equal(t, skipped+1, c.Stats().Skipped)
}

// What was read before an invalidation must not be kept after it.
func TestFillAfterInvalidation(t *testing.T) {
	t.Parallel()
	l := newL1(time.Hour, false, 0)
	l.prove(l.now())
	e := &entry{version: 12}
	f := l.begin([]string{"a", "b"}, nil)
	require.True(t, l.current(f.keep([]uint64{5, 7}, nil, e)))

	f = l.begin([]string{"a", "b"}, nil)
	l.invalidate("b", "unknown")
	require.False(t, l.current(f.keep([]uint64{5, 7}, nil, e)), "b has changed meanwhile")
	f = l.begin([]string{"a", "b"}, nil)
	l.clear()
	require.False(t, l.current(f.keep([]uint64{5, 7}, nil, e)), "everything may have changed")
	f = l.begin([]string{"a"}, []string{"b"})
	kept := f.keep([]uint64{5}, []uint64{7}, e)
	require.True(t, l.current(kept))
	require.Nil(t, f.keep([]uint64{5}, nil, e))
	l.proof.Store(l.now() - int64(2*time.Hour))
	require.False(t, l.current(kept), "no proof")
}

func TestTrackingIsRefused(t *testing.T) {
	t.Parallel()
	rdb := dial(t, servertest.Redis(t))
	_, err := New(rdb, WithTracking(time.Millisecond))
	require.ErrorContains(t, err, "too short")
	o := *rdb.Options()
	o.Protocol = 2
	resp2 := redis.NewClient(&o)
	t.Cleanup(func() { _ = resp2.Close() })
	_, err = New(resp2, WithTracking(time.Second))
	require.ErrorContains(t, err, "RESP3")
}
