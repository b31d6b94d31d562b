package icache

import (
	"cmp"
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// chunkTokens is how many tokens one run of a script takes: few enough
	// that Redis serves others in between.
	chunkTokens = 256
	// chunkCalls is how many runs go out in one round trip.
	chunkCalls = 16
)

// Incr increments tokens and so outdates every fragment that depends on any of
// them. Call it after the data have changed and the change is committed, never
// before. A nil return is the acknowledgement that the guarantee of this
// package starts from; after an error, which is an *[IncrError], call it again
// until it is nil. Increments that happen twice are harmless.
//
// The new value is the old one plus one or the time of the server in
// microseconds, whichever is greater; see docs/protocol.md.
func (c *Cache) Incr(ctx context.Context, tokens ...string) error {
	return c.IncrMany(ctx, tokens)
}

// IncrMany is Incr for any number of tokens. They go out in chunks, several in
// one round trip. It tries all of them, whatever happens to some; the Tokens
// of the *[IncrError] are the ones that are not acknowledged.
func (c *Cache) IncrMany(ctx context.Context, tokens []string) error {
	if len(tokens) == 0 {
		return nil
	}
	start := time.Now()
	keys := c.tokenKeys(tokens)
	chunks := c.redis.chunks(keys)
	var failed IncrError
	unlinked := 0
	for lo := 0; lo < len(chunks); lo += chunkCalls {
		part := chunks[lo:min(lo+chunkCalls, len(chunks))]
		for i, err := range c.bump(ctx, keys, part) {
			if isOOM(err) && !c.cfg.legacy {
				if err = c.unlink(ctx, keys, part[i]); err == nil {
					unlinked += len(part[i].at)
				}
			}
			if err == nil {
				continue
			}
			if failed.Err == nil {
				failed.Err = redisError("bump", err)
			}
			for _, t := range part[i].at {
				failed.Tokens = append(failed.Tokens, tokens[t])
			}
		}
	}
	c.stats.incrs.Add(uint64(len(tokens) - len(failed.Tokens)))
	var err error
	if failed.Err != nil {
		err = &failed
	}
	c.forget(tokens)
	c.hookIncr(ctx, IncrEvent{Tokens: tokens, Unlinked: unlinked, Duration: time.Since(start), Err: err})
	return err
}

// bump increments chunks of keys in one round trip and returns the error of
// each.
func (c *Cache) bump(ctx context.Context, keys []string, chunks []chunk) []error {
	calls := make([]call, len(chunks))
	script := cmp.Or(c.seams.bump, bumpScript)
	for i, chunk := range chunks {
		calls[i] = c.scriptCall(keys, chunk, c.absent())
	}
	if c.cfg.legacy {
		script = legacyScript
	}
	errs := make([]error, len(chunks))
	for i, cmd := range runScripts(ctx, c.redis.rdb, script, calls) {
		errs[i] = cmd.Err()
	}
	return errs
}

func (c *Cache) absent() string {
	if c.cfg.absent == AbsentSkip {
		return "skip"
	}
	return "create"
}

// scriptCall puts a chunk of token keys into the form that script.go describes.
func (c *Cache) scriptCall(keys []string, chunk chunk, more ...any) call {
	args := newCall(len(chunk.at) + 1)
	if c.cfg.legacy {
		return chunk.addTo(args, keys).end()
	}
	clock := 0
	if !c.redis.cluster {
		clock, args = 1, append(args, c.clockKey())
	}
	args = chunk.addTo(args, keys).end(clock, seconds(c.cfg.tokenTTL))
	return append(args, more...)
}

// unlink deletes tokens. To readers that create the tokens they miss that is
// as good as an increment, and Redis allows it when it is out of memory.
func (c *Cache) unlink(ctx context.Context, keys []string, chunk chunk) error {
	ks := make([]string, len(chunk.at))
	for i, k := range chunk.at {
		ks[i] = keys[k]
	}
	return c.redis.rdb.Unlink(ctx, ks...).Err()
}

// IncrAll outdates everything: it increments the generation token and then,
// for readers that do not know it, every token there is. It returns the number
// of those.
//
// With the token key of another program, such as "shop:1:{token}", the keys
// that match may not all be tokens. Only integers of at least 10^15 are
// incremented, which is what this protocol writes and hardly anything else;
// under [WithLegacyCounters], every integer is.
func (c *Cache) IncrAll(ctx context.Context) (int, error) {
	if !c.cfg.legacy {
		if err := c.Incr(ctx, Generation); err != nil {
			return 0, err
		}
	}
	return c.scan(ctx, c.keys.glob(), everyToken)
}

// forEachMaster calls fn for every server that holds tokens.
func (s *server) forEachMaster(ctx context.Context, fn func(ctx context.Context, rdb redis.UniversalClient) error) error {
	if cc, ok := s.rdb.(*redis.ClusterClient); ok {
		return cc.ForEachMaster(ctx, func(ctx context.Context, rdb *redis.Client) error { return fn(ctx, rdb) })
	}
	return fn(ctx, s.rdb)
}

// forget drops what this process remembers about tokens that it has just
// incremented.
func (c *Cache) forget(tokens []string) {
	if c.l1 != nil {
		c.l1.invalidate(tokens...)
	}
}
