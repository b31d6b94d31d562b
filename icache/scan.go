package icache

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// scan increments every token key in Redis and returns their number. Tokens
// that are created meanwhile may be left out: whoever creates one reads its
// data later.
func (c *Cache) scan(ctx context.Context) (int, error) {
	var n atomic.Int64
	err := c.redis.forEachMaster(ctx, func(ctx context.Context, rdb redis.UniversalClient) error {
		var cursor uint64
		for {
			keys, next, err := rdb.Scan(ctx, cursor, c.keys.glob(), 1000).Result()
			if err != nil {
				return redisError("scan tokens", err)
			}
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
	return int(n.Load()), err
}

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
