package icache

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// Whatever a fragment is made of, at any depth, outdates it.
func TestNestedTokens(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	computed := 0
	page := func(c *Cache) {
		_, err := Fetch(ctx, c, "page", []string{"page:1"}, func(ctx context.Context) (string, error) {
			computed++
			return Fetch(ctx, c, "list", []string{"list:1"}, func(ctx context.Context) (string, error) {
				Depend(ctx, "repository:1")
				return Fetch(ctx, c, "row", []string{"row:1"}, func(ctx context.Context) (string, error) {
					Depend(ctx, "deep:1")
					return "x", nil
				})
			})
		})
		require.NoError(t, err)
	}
	page(c)
	want := 1
	for _, token := range []string{
		"page:1", "list:1", "repository:1", "row:1", "deep:1", "page:*", "list:*", "repository:*", "row:*", "deep:*", "*",
	} {
		for _, c := range []*Cache{c, cacheOn(t, rdb, WithPrefix(c.cfg.prefix))} { // warm and cold memory
			require.NoError(t, c.Incr(ctx, token))
			want++
			page(c)
			page(c)
			require.Equal(t, want, computed, token)
		}
	}
	require.NoError(t, c.Incr(ctx, "page:2", "deep:2"))
	page(c)
	require.Equal(t, want, computed)
}

// Losing a token that was found on the way is a miss too.
func TestExtraTokenLost(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	computed := 0
	page := func() {
		_, err := Fetch(ctx, c, "page", nil, func(ctx context.Context) (string, error) {
			computed++
			Depend(ctx, "a")
			return "x", nil
		})
		require.NoError(t, err)
	}
	page()
	page()
	require.Equal(t, 1, computed)
	require.NoError(t, rdb.Del(ctx, c.keys.key("a")).Err())
	page()
	require.Equal(t, 2, computed)
}

// The value that counts is the one from before the data were read.
func TestDependWhileChanging(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	_, err := Fetch(ctx, c, "page", nil, func(ctx context.Context) (string, error) {
		Depend(ctx, "a")
		old := "data"
		require.NoError(t, c.Incr(ctx, "a"))
		Depend(ctx, "a") // too late for what has been read
		return old, nil
	})
	require.NoError(t, err)
	got, err := Fetch(ctx, c, "page", nil, constant("fresh"))
	require.NoError(t, err)
	require.Equal(t, "fresh", got)
}

func TestChildThatIsNotStored(t *testing.T) {
	t.Parallel()
	for name, child := range map[string]func(ctx context.Context, c *Cache) error{
		"no store": func(ctx context.Context, c *Cache) error {
			_, err := Fetch(ctx, c, "child", nil, func(ctx context.Context) (int, error) {
				NoStore(ctx)
				return 1, nil
			})
			return err
		},
		"bypass": func(ctx context.Context, c *Cache) error {
			_, err := Fetch(Bypass(ctx), c, "child", nil, constant(1))
			return err
		},
		"other redis": func(ctx context.Context, c *Cache) error {
			other, err := New(c.redis.rdb, WithPrefix(c.cfg.prefix+"other:"))
			if err != nil {
				return err
			}
			_, err = Fetch(ctx, other, "child", nil, constant(1))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newCache(t)
			for i := range 2 {
				got, err := Fetch(t.Context(), c, "parent", nil, func(ctx context.Context) (int, error) {
					return i, child(ctx, c)
				})
				require.NoError(t, err)
				require.Equal(t, i, got, "the parent is not stored either")
			}
		})
	}
}

// A parent that goes on after its child has failed still depends on it.
func TestChildThatFails(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	computed := 0
	page := func() {
		_, err := Fetch(ctx, c, "page", nil, func(ctx context.Context) (string, error) {
			computed++
			_, err := Fetch(ctx, c, "child", []string{"a"}, func(ctx context.Context) (string, error) {
				Depend(ctx, "b")
				return "", errTest
			})
			require.ErrorIs(t, err, errTest)
			return "without", nil
		})
		require.NoError(t, err)
	}
	page()
	page()
	require.Equal(t, 1, computed)
	for _, token := range []string{"a", "b"} {
		require.NoError(t, c.Incr(ctx, token))
		page()
	}
	require.Equal(t, 3, computed)
}

func TestTTL(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	_, err := Fetch(ctx, c, "parent", nil, func(ctx context.Context) (int, error) {
		return Fetch(ctx, c, "child", nil, func(ctx context.Context) (int, error) {
			SetTTL(ctx, time.Minute)
			return 1, nil
		}, TTL(time.Hour))
	})
	require.NoError(t, err)
	for _, name := range []string{"child", "parent"} {
		ttl := rdb.PTTL(ctx, c.fragmentKey(c.FragmentKey(name, nil))).Val()
		require.Greater(t, ttl, 45*time.Second, name)
		require.LessOrEqual(t, ttl, time.Minute, name)
	}
	// A parent that finds the child stored expires with it too.
	_, err = Fetch(ctx, c, "parent2", nil, func(ctx context.Context) (int, error) {
		return Fetch(ctx, c, "child", nil, never[int](t))
	})
	require.NoError(t, err)
	require.LessOrEqual(t, rdb.PTTL(ctx, c.fragmentKey(c.FragmentKey("parent2", nil))).Val(), time.Minute)
	_, err = Fetch(ctx, c, "forever", nil, constant(1))
	require.NoError(t, err)
	require.Equal(t, time.Duration(-1), rdb.PTTL(ctx, c.fragmentKey(c.FragmentKey("forever", nil))).Val())
}

func TestPin(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := Pin(t.Context())
	require.NoError(t, c.Prefetch(ctx, "a", "b:1"))
	trips := &countTrips{}
	c.redis.read.AddHook(trips)
	fetchTwice(ctx, t, c, "x", 1)
	get := func(ctx context.Context, v int) int {
		got, err := Fetch(ctx, c, "k", []string{"a", "b:1"}, constant(v))
		require.NoError(t, err)
		return got
	}
	require.Equal(t, 1, get(ctx, 1))
	require.NoError(t, c.Incr(ctx, "a"))
	require.Equal(t, 1, get(ctx, 2), "the request sees the tokens it has seen")
	require.Equal(t, 3, get(t.Context(), 3))
	require.Equal(t, 3, get(ctx, 4), "a newer fragment is welcome")
	require.NoError(t, rdb.Del(ctx, c.fragmentKey(c.FragmentKey("k", []string{"a", "b:1"}))).Err())
	require.NoError(t, c.Incr(ctx, "a"))
	require.Equal(t, 5, get(ctx, 5))
	require.Equal(t, 5, get(t.Context(), 6), "what is computed is stored under tokens read anew")
	require.NoError(t, c.Prefetch(t.Context(), "a"), "without Pin it does nothing")
}

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
