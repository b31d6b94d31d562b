package icache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// IncrGroups outdates whole groups, such as "movie:*": it increments the group
// tokens and then, for readers that do not know those, every token of the groups
// that there is. It returns the number of the latter. [Generation] stands for
// everything, as with [Cache.IncrAll].
//
// Redis keeps no list of a group's tokens, so it looks through all keys: once,
// for any number of groups. Readers that use this package do not need it:
// [Cache.Incr] of the group token is enough for them.
//
// As with IncrAll, keys that match and hold no token are left alone.
func (c *Cache) IncrGroups(ctx context.Context, groups ...string) (int, error) {
	if len(groups) == 0 {
		return 0, nil
	}
	wanted := make(map[string]bool, len(groups))
	for _, g := range groups {
		if g == Generation {
			return c.IncrAll(ctx)
		}
		wanted[g] = true
	}
	if !c.cfg.legacy {
		if err := c.IncrMany(ctx, groups); err != nil {
			return 0, err
		}
	}
	glob := c.keys.glob()
	if len(wanted) == 1 { // Redis sends only what is wanted
		glob = globEscape(c.keys.before+strings.TrimSuffix(groups[0], "*")) + "*" + globEscape(c.keys.after)
	}
	return c.scan(ctx, glob, func(token string) bool {
		group, ok := Group(token)
		return ok && wanted[group] && token != group
	})
}

// scan increments the token keys in Redis that match a pattern and hold a
// wanted token, and returns their number. Tokens that are created meanwhile may
// be left out: whoever creates one reads its data later.
func (c *Cache) scan(ctx context.Context, glob string, wanted func(token string) bool) (int, error) {
	var n atomic.Int64
	err := c.redis.forEachMaster(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		var cursor uint64
		for {
			keys, next, err := rdb.Scan(ctx, cursor, glob, 1000).Result()
			if err != nil {
				return redisError("scan tokens", err)
			}
			keys = slices.DeleteFunc(keys, func(key string) bool {
				token, ok := c.keys.token(key)
				return !ok || !wanted(token)
			})
			m, err := c.bumpKeys(ctx, keys)
			n.Add(int64(m))
			if err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
	if c.cfg.legacy { // otherwise the increment of the group or generation counts, which all readers here know
		c.stats.incrs.Add(uint64(n.Load()))
	}
	return int(n.Load()), err
}

func everyToken(string) bool { return true }

// bumpKeys increments those of the keys that hold tokens.
func (c *Cache) bumpKeys(ctx context.Context, keys []string) (int, error) {
	chunks := c.redis.chunks(keys)
	if len(chunks) == 0 {
		return 0, nil
	}
	calls := make([]call, len(chunks))
	script := bumpScript
	for i, chunk := range chunks {
		calls[i] = c.scriptCall(keys, chunk, "scan")
	}
	if c.cfg.legacy {
		script = legacyScanScript
	}
	n := 0
	var first error
	for i, cmd := range runScripts(ctx, c.redis.rdb, script, calls) {
		m, err := cmd.Int()
		if isOOM(err) && !c.cfg.legacy {
			m, err = len(chunks[i].at), c.unlink(ctx, keys, chunks[i])
		}
		n += m
		if err != nil && first == nil {
			first = fmt.Errorf("icache: increment all tokens: %w", err)
		}
	}
	return n, first
}
