package icache

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestGroup(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		"movie:42": "movie:*", "a:b:c": "a:*", "movie:": "movie:*", ":x": ":*", "movie:*": "movie:*",
	} {
		got, ok := Group(token)
		require.True(t, ok, token)
		require.Equal(t, want, got)
	}
	for _, token := range []string{"movies", "*", ""} {
		_, ok := Group(token)
		require.False(t, ok, token)
	}
}

func TestHashToken(t *testing.T) {
	t.Parallel()
	// echo -n alice@example.com | sha256sum | head -c 32
	require.Equal(t, "ff8d9819fc0e12bf0d24892e45987e24", HashToken("alice@example.com"))
}

func TestExpand(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"*"}, expand(nil))
	require.Equal(t, []string{"*", "movie:*", "movie:1", "movie:2", "movies"},
		expand([]string{"movies", "movie:2", "movie:1", "movie:2"}))
}

func TestExpandIgnoresOrderAndDuplicates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOf(rapid.StringMatching(`[a-c]{1,2}(:[0-9*])?`)).Draw(t, "tokens")
		more := append(slices.Clone(tokens), rapid.SliceOfN(rapid.SampledFrom(append(tokens, "*")), 0, 5).Draw(t, "again")...)
		shuffled := rapid.Permutation(more).Draw(t, "shuffled")
		require.Equal(t, expand(tokens), expand(shuffled))
	})
}

// If no term of a sum is smaller than before and the sums are equal, then so
// are all terms, also where the sum wraps around.
func TestSumOfGrowingValues(t *testing.T) {
	t.Parallel()
	require.Equal(t, Version(1), sum([]uint64{math.MaxUint64, 2}))
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint64Range(1<<50, 1<<51)
		old := rapid.SliceOfN(base, 1, 300).Draw(t, "old")
		grown := slices.Clone(old)
		for i := range grown {
			grown[i] += rapid.SampledFrom([]uint64{0, 0, 0, 1, 1 << 30}).Draw(t, "by")
		}
		require.Equal(t, slices.Equal(old, grown), sum(old) == sum(grown))
		require.Equal(t, sum(old), sum(rapid.Permutation(old).Draw(t, "order")))
	})
}

func TestParseToken(t *testing.T) {
	t.Parallel()
	v, ok := parseToken([]byte("1795400279134781"))
	require.True(t, ok)
	require.Equal(t, uint64(1795400279134781), v)
	for _, s := range []string{"", "-1", "+1", "1.5", "1e3", " 1", "0x10", "1_000", "18446744073709551616", "abc"} {
		_, ok := parseToken([]byte(s))
		require.False(t, ok, s)
	}
}

func TestKeyPattern(t *testing.T) {
	t.Parallel()
	p, ok := parseKeyPattern("shop*:1:{token}!")
	require.True(t, ok)
	require.Equal(t, "shop*:1:movies!", p.key("movies"))
	require.Equal(t, `shop\*:1:*!`, p.glob())
	for _, s := range []string{"", "x", "{token}{token}"} {
		_, ok := parseKeyPattern(s)
		require.False(t, ok, s)
	}
}

// Whatever tells fragments apart must tell their keys apart.
func TestFragmentKeysDiffer(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	type id struct{ key, tokens, vary string }
	seen := make(map[string]id)
	add := func(key string, tokens []string, vary ...any) {
		name := c.FragmentKey(key, tokens, Vary(vary...))
		this := id{key, fmt.Sprintf("%q", distinct(tokens)), fmt.Sprintf("%q", vary)}
		if other, ok := seen[name]; ok {
			require.Equal(t, other, this)
		}
		seen[name] = this
	}
	add("k", nil)
	add("k", []string{"a,b"})
	add("k", []string{"a", "b"})
	add("k", []string{"b", "a", "a"})
	add("k", []string{"ab"})
	add("k", nil, "ab")
	add("k", nil, "a", "b")
	add("k", []string{"a"}, "b")
	add("k", []string{"b"}, "a")
	add("k:", nil)
	require.Len(t, seen, 9)

	other, err := New(c.redis.rdb, WithEpoch("2"))
	require.NoError(t, err)
	require.NotEqual(t, c.FragmentKey("k", nil), other.FragmentKey("k", nil))
}

func TestKeySlot(t *testing.T) {
	t.Parallel()
	// CLUSTER KEYSLOT of Redis 7.0.
	for key, want := range map[string]uint16{
		"": 0, "foo": 12182, "123456789": 12739, "{user1000}.following": 3443, "{user1000}.followers": 3443,
		"foo{}{bar}": 8363, "foo{{bar}}zap": 4015, "foo{bar}{zap}": 5061,
	} {
		require.Equal(t, want, keySlot(key), key)
	}
}
