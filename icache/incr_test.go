package icache

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestIncr(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	before := time.Now().Add(-time.Minute).UnixMicro()
	require.NoError(t, c.Incr(ctx))
	require.NoError(t, c.Incr(ctx, "a", "b", "a"))
	first, err := c.Values(ctx, "a", "b", "c")
	require.NoError(t, err)
	require.Len(t, first, 2)
	require.Greater(t, first["a"], uint64(before), "a new token is about now")
	require.NoError(t, c.Incr(ctx, "a"))
	second, err := c.Values(ctx, "a", "b")
	require.NoError(t, err)
	require.Greater(t, second["a"], first["a"])
	require.Equal(t, first["b"], second["b"])
	require.Positive(t, rdb.Exists(ctx, c.clockKey()).Val())
}

func TestIncrCountsUpFromAhead(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	for value, want := range map[string]string{
		"4000000000000000":     "4000000000000001",
		"9007199254739999":     "9007199254740000",
		"9007199254740993":     "9007199254740994", // 2^53 + 1: a double cannot hold it
		"9223372036854775806":  "9223372036854775807",
		"4000000000000000.0":   "4000000000000001",
		"9223372036854775807":  "", // INCR would overflow
		"18446744073709551615": "",
		"hello":                "", // not a token: replaced
		"-5":                   "",
		"":                     "",
	} {
		require.NoError(t, rdb.Set(ctx, c.keys.key("x"), value, 0).Err())
		require.NoError(t, c.Incr(ctx, "x"), value)
		got := rdb.Get(ctx, c.keys.key("x")).Val()
		if want != "" {
			require.Equal(t, want, got)
			continue
		}
		n, err := strconv.ParseInt(got, 10, 64)
		require.NoError(t, err, value)
		require.InDelta(t, time.Now().UnixMicro(), n, 60e6, value)
	}
}

// A token that is lost and created again must not get a value it has had, even
// if the clock of the server has been set back in between.
func TestSeedAfterClockWentBack(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	// The clock that the tokens were made with ran an hour ahead.
	ahead := time.Now().Add(time.Hour).UnixMicro()
	require.NoError(t, rdb.Set(ctx, c.clockKey(), ahead, 0).Err())
	seen := make(map[uint64]bool)
	last := uint64(ahead)
	for range 50 {
		_, err := c.GetSum(ctx, "x")
		require.NoError(t, err)
		require.NoError(t, c.Incr(ctx, "x"))
		vals, err := c.Values(ctx, "x")
		require.NoError(t, err)
		require.Greater(t, vals["x"], last)
		require.False(t, seen[vals["x"]])
		last = vals["x"]
		seen[last] = true
		require.NoError(t, rdb.Del(ctx, c.keys.key("x")).Err())
	}
}

func TestIncrManyInChunks(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	tokens := make([]string, chunkTokens*chunkCalls+chunkTokens+7)
	for i := range tokens {
		tokens[i] = fmt.Sprint("movie:", i)
	}
	// Every other one exists; the scripts are not known to the server yet.
	half := rdb.Pipeline()
	for i := 0; i < len(tokens); i += 2 {
		half.Set(ctx, c.keys.key(tokens[i]), 5, time.Hour)
	}
	_, err := half.Exec(ctx)
	require.NoError(t, err)
	require.NoError(t, c.IncrMany(ctx, tokens))
	vals, err := c.Values(ctx, tokens...)
	require.NoError(t, err)
	require.Len(t, vals, len(tokens))
	for token, v := range vals {
		require.Greater(t, v, uint64(5), token)
	}
	require.InDelta(t, time.Hour, rdb.TTL(ctx, c.keys.key(tokens[0])).Val(), float64(time.Minute), "the time to live stays")
	require.Equal(t, uint64(len(tokens)), c.Stats().Incrs)
}

func TestAbsentSkip(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t, WithAbsentTokens(AbsentSkip))
	ctx := t.Context()
	require.NoError(t, c.Incr(ctx, "a", "b"))
	require.Zero(t, rdb.Exists(ctx, c.keys.key("a"), c.keys.key("b"), c.clockKey()).Val(), "nothing is created")
	v1, err := c.GetSum(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, c.Incr(ctx, "a", "b"))
	v2, err := c.GetSum(ctx, "a")
	require.NoError(t, err)
	require.NotEqual(t, v1, v2)
	require.Zero(t, rdb.Exists(ctx, c.keys.key("b")).Val())
}

func TestTokenTTL(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t, WithTokenTTL(90*time.Second+time.Millisecond))
	ctx := t.Context()
	_, err := c.GetSum(ctx, "read")
	require.NoError(t, err)
	require.NoError(t, c.Incr(ctx, "written", "read"))
	for _, token := range []string{"read", "written", "*"} {
		require.InDelta(t, 91*time.Second, rdb.TTL(ctx, c.keys.key(token)).Val(), float64(5*time.Second), token)
	}
	require.Equal(t, time.Duration(-1), rdb.TTL(ctx, c.clockKey()).Val(), "the clock stays")
}

func TestIncrAll(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	const n = 2500
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = fmt.Sprint("movie:", i)
	}
	require.NoError(t, c.IncrMany(ctx, tokens))
	for name, value := range map[string]string{"counter": "41", "text": "hello", "float": "1e15", "negative": "-1795400279134781"} {
		require.NoError(t, rdb.Set(ctx, c.keys.key(name), value, 0).Err())
	}
	require.NoError(t, rdb.LPush(ctx, c.keys.key("list"), "1795400279134781").Err())
	before, err := c.Values(ctx, tokens...)
	require.NoError(t, err)
	count, err := c.IncrAll(ctx)
	require.NoError(t, err)
	require.Equal(t, n+1, count, "with the generation")
	after, err := c.Values(ctx, tokens...)
	require.NoError(t, err)
	for token, v := range before {
		require.Greater(t, after[token], v, token)
	}
	require.Equal(t, "41", rdb.Get(ctx, c.keys.key("counter")).Val(), "what is no token stays")
	require.Equal(t, "hello", rdb.Get(ctx, c.keys.key("text")).Val())
	require.Equal(t, "1e15", rdb.Get(ctx, c.keys.key("float")).Val())
	require.Equal(t, "-1795400279134781", rdb.Get(ctx, c.keys.key("negative")).Val())
}

func TestIncrErrorNamesTokens(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	var event IncrEvent
	c := cacheOn(t, rdb, WithHooks(Hooks{Incr: func(_ context.Context, e IncrEvent) { event = e }}))
	err := c.Incr(t.Context(), "b", "a")
	var partial *IncrError
	require.ErrorAs(t, err, &partial)
	require.Equal(t, []string{"b", "a"}, partial.Tokens)
	require.Equal(t, err, event.Err)
	require.Error(t, partial.Unwrap())
	require.Contains(t, c.Incr(t.Context(), "a").Error(), `increment "a"`)
}

func TestLegacyCounters(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t, WithLegacyCounters())
	ctx := t.Context()
	v, err := c.GetSum(ctx, "a", "b:1")
	require.NoError(t, err)
	require.Zero(t, v, "absent counts 0")
	require.NoError(t, c.Incr(ctx, "a"))
	require.Equal(t, "0", rdb.Get(ctx, c.keys.key("a")).Val(), "the first stores 0")
	for range 3 {
		require.NoError(t, c.Incr(ctx, "a", "b:1"))
	}
	v, err = c.GetSum(ctx, "a", "b:1")
	require.NoError(t, err)
	require.Equal(t, Version(5), v)
	require.Zero(t, rdb.Exists(ctx, c.keys.key("b:*"), c.keys.key("*")).Val(), "no groups, no generation")

	require.NoError(t, c.SetVersioned(ctx, "k", v, []byte("x")))
	_, err = c.GetVersioned(ctx, "k", v)
	require.NoError(t, err)
	n, err := c.IncrAll(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	v2, err := c.GetSum(ctx, "a", "b:1")
	require.NoError(t, err)
	require.Equal(t, Version(7), v2)
}

// Redis refuses writes when it is full, but not UNLINK.
func TestIncrWhenRedisIsFull(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t, "maxmemory-policy noeviction")
	rdb := dial(t, server.URL())
	ctx := t.Context()
	var last IncrEvent
	c := cacheOn(t, rdb, WithHooks(Hooks{Incr: func(_ context.Context, e IncrEvent) { last = e }}))
	v1, err := c.GetSum(ctx, "a", "b")
	require.NoError(t, err)
	require.NoError(t, c.SetVersioned(ctx, "k", v1, []byte("old")))
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())

	require.NoError(t, c.Incr(ctx, "a"))
	require.Equal(t, 1, last.Unlinked)
	require.Zero(t, rdb.Exists(ctx, c.keys.key("a")).Val())
	got, err := Fetch(ctx, c, "page", []string{"a"}, constant("computed"))
	require.NoError(t, err, "a Fetch goes on without Redis")
	require.Equal(t, "computed", got)
	require.Positive(t, c.Stats().Degraded)

	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "0").Err())
	v2, err := c.GetSum(ctx, "a", "b")
	require.NoError(t, err)
	require.NotEqual(t, v1, v2)
	_, err = c.GetVersioned(ctx, "k", v2)
	require.ErrorIs(t, err, ErrMiss)

	legacy := cacheOn(t, rdb, WithLegacyCounters())
	require.NoError(t, legacy.Incr(ctx, "c"))
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())
	require.True(t, isOOM(legacy.Incr(ctx, "c")), "to a reader for whom absent is 0, deleting is no increment")
}
