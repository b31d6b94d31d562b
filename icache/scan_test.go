package icache

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestIncrGroups(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	const n = 2500
	var movies, others []string
	for i := range n {
		movies = append(movies, fmt.Sprint("movie:", i))
		others = append(others, fmt.Sprint("movies:", i))
	}
	genres := []string{"genre:1", "genre:2:top", "genre:[*]?"}
	others = append(others, "movie", "movies", "user:movie:1", "genre")
	all := append(append(append([]string(nil), movies...), others...), genres...)
	require.NoError(t, c.IncrMany(ctx, all))
	require.NoError(t, rdb.Set(ctx, c.keys.key("movie:counter"), "41", 0).Err())
	require.NoError(t, rdb.HSet(ctx, c.keys.key("movie:hash"), "a", "b").Err())
	read := func() map[string]uint64 {
		v, err := c.Values(ctx, all...)
		require.NoError(t, err)
		return v
	}
	changed := func(groups ...string) (count int, tokens []string) {
		before := read()
		count, err := c.IncrGroups(ctx, groups...)
		require.NoError(t, err)
		after := read()
		for _, token := range all {
			require.GreaterOrEqual(t, after[token], before[token])
			if after[token] > before[token] {
				tokens = append(tokens, token)
			}
		}
		return count, tokens
	}

	count, tokens := changed("movie:*")
	require.Equal(t, n, count)
	require.Equal(t, movies, tokens)
	group, err := c.Values(ctx, "movie:*")
	require.NoError(t, err)
	require.NotZero(t, group["movie:*"], "for readers that know it")

	count, tokens = changed("movie:*", "genre:*", "nobody:*", "genre:*")
	require.Equal(t, n+len(genres), count)
	require.Equal(t, append(append([]string(nil), movies...), genres...), tokens)

	count, tokens = changed("nobody:*")
	require.Zero(t, count)
	require.Empty(t, tokens)
	count, tokens = changed()
	require.Zero(t, count)
	require.Empty(t, tokens)
	_, tokens = changed("movie:*", Generation)
	require.Equal(t, all, tokens, "the generation stands for everything")

	require.Equal(t, "41", rdb.Get(ctx, c.keys.key("movie:counter")).Val(), "what is no token stays")
	require.Equal(t, "b", rdb.HGet(ctx, c.keys.key("movie:hash"), "a").Val())
}

// A pattern with an end and with characters that mean something to SCAN, as a
// foreign cache may have them.
func TestIncrGroupsOfAForeignPattern(t *testing.T) {
	t.Parallel()
	_, rdb := newCache(t)
	prefix := servertest.Prefix(t)
	c := cacheOn(t, rdb, WithTokenKey(prefix+`[shop]*:1:{token}:v\2`))
	other := cacheOn(t, rdb, WithTokenKey(prefix+`[shop]x:1:{token}:v\2`))
	ctx := t.Context()
	for _, one := range []*Cache{c, other} {
		require.NoError(t, one.Incr(ctx, "movie:1", "genre:1"))
	}
	mine, err := c.Values(ctx, "movie:1", "genre:1")
	require.NoError(t, err)
	theirs, err := other.Values(ctx, "movie:1", "genre:1")
	require.NoError(t, err)
	n, err := c.IncrGroups(ctx, "movie:*")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	now, err := c.Values(ctx, "movie:1", "genre:1")
	require.NoError(t, err)
	require.Greater(t, now["movie:1"], mine["movie:1"])
	require.Equal(t, mine["genre:1"], now["genre:1"])
	now, err = other.Values(ctx, "movie:1", "genre:1")
	require.NoError(t, err)
	require.Equal(t, theirs, now)
}

func TestIncrGroupsFails(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	_, err := cacheOn(t, rdb).IncrGroups(t.Context(), "movie:*")
	require.Error(t, err)
}
