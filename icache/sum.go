package icache

import (
	"cmp"
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// GetSum returns the version of a set of tokens: the sum of their values, of
// their groups and of the generation. It creates the tokens that are absent.
// Call it before reading the data that the version is to stand for.
func (c *Cache) GetSum(ctx context.Context, tokens ...string) (Version, error) {
	all := c.expand(tokens)
	vals, err := c.readTokens(ctx, c.redis.rdb, all)
	if err != nil {
		return 0, err
	}
	return sum(vals), nil
}

// Values returns the values of tokens as they are in Redis, without groups and
// generation. It creates nothing; absent tokens are not in the map.
func (c *Cache) Values(ctx context.Context, tokens ...string) (map[string]uint64, error) {
	out := make(map[string]uint64, len(tokens))
	if len(tokens) == 0 {
		return out, nil
	}
	tokens = distinct(tokens)
	keys := c.tokenKeys(tokens)
	vals, err := c.redis.mget(ctx, c.redis.rdb, keys)
	if err != nil {
		return nil, redisError("read tokens", err)
	}
	for i, v := range vals {
		if v == nil {
			continue
		}
		var ok bool
		if out[tokens[i]], ok = parseToken(v); !ok {
			return nil, tokenError(tokens[i], keys[i], string(v))
		}
	}
	return out, nil
}

// readTokens returns the values of tokens and creates the absent ones.
func (c *Cache) readTokens(ctx context.Context, rdb redis.UniversalClient, tokens []string) ([]uint64, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	keys := c.tokenKeys(tokens)
	raw, err := c.redis.mget(ctx, rdb, keys)
	if err != nil {
		return nil, redisError("read tokens", err)
	}
	vals := make([]uint64, len(tokens))
	_, err = c.parseOrSeed(ctx, rdb, tokens, keys, raw, vals)
	return vals, err
}

// parseOrSeed turns the replies for tokens into values. Absent tokens are
// created, or count 0 under WithLegacyCounters. It reports whether any was.
func (c *Cache) parseOrSeed(ctx context.Context, rdb redis.UniversalClient, tokens, keys []string, raw values, vals []uint64) (seeded bool, err error) {
	var absent []int
	for i := range tokens {
		if raw[i] == nil {
			absent = append(absent, i)
			continue
		}
		var ok bool
		if vals[i], ok = parseToken(raw[i]); !ok {
			return false, tokenError(tokens[i], keys[i], string(raw[i]))
		}
	}
	if len(absent) == 0 || c.cfg.legacy {
		return false, nil
	}
	return true, c.seed(ctx, rdb, tokens, keys, absent, vals)
}

// seed creates the tokens at the given positions, unless somebody else has
// meanwhile, and fills in their values.
func (c *Cache) seed(ctx context.Context, rdb redis.UniversalClient, tokens, keys []string, absent []int, vals []uint64) error {
	ks := make([]string, len(absent))
	for i, a := range absent {
		ks[i] = keys[a]
	}
	chunks := c.redis.chunks(ks)
	calls := make([]call, len(chunks))
	for i, chunk := range chunks {
		calls[i] = c.scriptCall(ks, chunk)
	}
	for i, cmd := range runScripts(ctx, rdb, cmp.Or(c.seams.seed, seedScript), calls) {
		out, err := cmd.StringSlice()
		if err != nil {
			return redisError("create tokens", err)
		}
		if len(out) != len(chunks[i].at) {
			return fmt.Errorf("icache: create tokens: %d values for %d tokens", len(out), len(chunks[i].at))
		}
		for j, s := range out {
			a := absent[chunks[i].at[j]]
			var ok bool
			if vals[a], ok = parseToken(readOnly(s)); !ok {
				return tokenError(tokens[a], keys[a], s)
			}
		}
	}
	c.stats.seeds.Add(uint64(len(absent)))
	return nil
}

func tokenError(token, key, value string) error {
	const most = 32
	if len(value) > most {
		value = value[:most] + "…"
	}
	return &TokenError{Token: token, Key: key, Value: value}
}
