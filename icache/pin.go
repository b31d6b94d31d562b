package icache

import (
	"context"
	"sync"
)

// pinned are token values that a request has read.
type pinned struct {
	mu   sync.Mutex
	vals map[pinnedKey]uint64
}

type pinnedKey struct {
	c     *Cache
	token string
}

// Pin returns a context under which a Fetch does not read tokens again that an
// earlier Fetch, or [Cache.Prefetch], has read under it: one request pays for
// each token once. A hit is then as fresh as the Pin, and no more; before
// anything is computed its tokens are read anew, so data that were read between
// the Pin and the Fetch are not covered by them.
func Pin(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.pin = &pinned{vals: make(map[pinnedKey]uint64)}
	return s.with(ctx)
}

// Prefetch reads tokens, with their groups, into a context made by [Pin], in
// one round trip. Without Pin it does nothing.
func (c *Cache) Prefetch(ctx context.Context, tokens ...string) error {
	pin := scopeOf(ctx).pin
	if pin == nil {
		return nil
	}
	all := c.expand(tokens)
	rctx, cancel := c.redis.context(ctx)
	defer cancel()
	vals, err := c.readTokens(rctx, c.redis.read, all)
	if err != nil {
		return err
	}
	pin.set(c, all, vals)
	return nil
}

// get fills in the values that are known and returns the positions of those
// that are not.
func (p *pinned) get(c *Cache, tokens []string, vals []uint64) (unknown []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, t := range tokens {
		v, ok := p.vals[pinnedKey{c, t}]
		if !ok {
			unknown = append(unknown, i)
			continue
		}
		vals[i] = v
	}
	return unknown
}

func (p *pinned) set(c *Cache, tokens []string, vals []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, t := range tokens {
		p.vals[pinnedKey{c, t}] = vals[i]
	}
}
