package icache

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
