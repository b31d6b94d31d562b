package icache

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	c, rdb := newCache(t, WithGuard(), rec.option())
	ctx := t.Context()
	get := func(v int) (int, Event) {
		got, err := Fetch(ctx, c, "k", nil, constant(v))
		require.NoError(t, err)
		return got, rec.next(t)
	}
	got, e := get(1)
	require.Equal(t, 1, got)
	require.Equal(t, Skipped, e.Outcome)
	require.Equal(t, WhyGuard, e.Why)
	lease := func(d time.Duration) {
		require.NoError(t, rdb.Do(ctx, "SET", c.guardKey(), "1", "PXAT", time.Now().Add(d).UnixMilli()).Err())
	}
	lease(time.Hour)
	_, e = get(2)
	require.Equal(t, Miss, e.Outcome)
	got, e = get(3)
	require.Equal(t, 2, got)
	require.Equal(t, Hit, e.Outcome)
	lease(-time.Second) // an agent that comes too late does not renew it
	got, _ = get(4)
	require.Equal(t, 4, got)

	_, err := New(rdb, WithGuard(), WithLegacyCounters())
	require.Error(t, err)
}

func TestPayloadCache(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	c, rdb := newCache(t, WithPayloadCache(1<<20), rec.option())
	ctx := t.Context()
	get := func(c *Cache, v string) string {
		got, err := Fetch(ctx, c, "k", []string{"a"}, func(ctx context.Context) (string, error) {
			Depend(ctx, "b")
			return v, nil
		})
		require.NoError(t, err)
		return got
	}
	require.Equal(t, "1", get(c, "1"))
	rec.next(t)
	require.NoError(t, rdb.Set(ctx, c.fragmentKey(c.FragmentKey("k", []string{"a"})), "never read", 0).Err())
	require.Equal(t, "1", get(c, "x"))
	require.Equal(t, HitLocal, rec.next(t).Outcome)

	// Another process computes the next version; this one takes it over.
	other := cacheOn(t, rdb, WithPrefix(c.cfg.prefix))
	for i, token := range []string{"a", "b"} {
		require.NoError(t, other.Incr(ctx, token))
		want := []string{"2", "3"}[i]
		require.Equal(t, want, get(other, want))
		require.Equal(t, want, get(c, "x"))
		require.Equal(t, Hit, rec.next(t).Outcome)
		require.Equal(t, want, get(c, "x"))
		require.Equal(t, HitLocal, rec.next(t).Outcome)
	}

	_, err := Fetch(ctx, c, "short", nil, constant("old"), TTL(30*time.Millisecond))
	require.NoError(t, err)
	time.Sleep(40 * time.Millisecond)
	got, err := Fetch(ctx, c, "short", nil, constant("new"))
	require.NoError(t, err)
	require.Equal(t, "new", got, "it expires here too")
}

func TestLeaseAcrossProcesses(t *testing.T) {
	t.Parallel()
	server := servertest.Redis(t)
	prefix := servertest.Prefix(t)
	const processes, rounds = 8, 5
	caches := make([]*Cache, processes)
	for i := range caches {
		caches[i] = cacheOn(t, dial(t, server), WithPrefix(prefix), WithDefaults(WithLease(10*time.Second, 10*time.Second)))
	}
	computed := make(chan int, 1000)
	for range rounds {
		require.NoError(t, caches[0].Incr(t.Context(), "a"))
		done := make(chan error, processes)
		for i, c := range caches {
			go func() {
				_, err := Fetch(t.Context(), c, "k", []string{"a"}, func(context.Context) (int, error) {
					computed <- i
					time.Sleep(20 * time.Millisecond)
					return i, nil
				})
				done <- err
			}()
		}
		for range processes {
			require.NoError(t, <-done)
		}
	}
	require.Len(t, computed, rounds, "one computation for all processes and version")
}

// A process that dies with the lease holds the others up for a while only.
func TestLeaseIsNotWaitedForForever(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t, WithDefaults(WithLease(time.Hour, 50*time.Millisecond)))
	ctx := t.Context()
	v, err := c.GetSum(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, rdb.Set(ctx, c.leaseKey(c.FragmentKey("k", []string{"a"}), v), 1, time.Hour).Err())
	got, err := Fetch(ctx, c, "k", []string{"a"}, constant("mine"))
	require.NoError(t, err)
	require.Equal(t, "mine", got)
	require.Positive(t, c.Stats().LeaseWaits)

	// One from before an increment is in nobody's way.
	require.NoError(t, c.Incr(ctx, "a"))
	start := time.Now()
	_, err = Fetch(ctx, c, "k", []string{"a"}, constant("next"), WithLease(time.Hour, time.Minute))
	require.NoError(t, err)
	require.Less(t, time.Since(start), 30*time.Second)
	keys := rdb.Keys(ctx, c.cfg.prefix+"l:*").Val()
	require.Len(t, keys, 1, "the lease is given back: %v", keys)
}
