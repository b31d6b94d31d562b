package icache

import (
	"context"
	"slices"
)

// lookupMany looks fragments up in one round trip, and in one more each for
// tokens that are absent and for extra tokens not known before.
func (c *Cache) lookupMany(ctx context.Context, fragments []*Fragment) ([]lookup, error) {
	if !c.breaker.allow() {
		return nil, errBreaker
	}
	rctx, cancel := c.redis.context(ctx)
	defer cancel()
	looks, err := c.readMany(rctx, fragments)
	if ctx.Err() == nil {
		c.breaker.report(err)
	}
	return looks, err
}

func (c *Cache) readMany(ctx context.Context, fragments []*Fragment) ([]lookup, error) {
	at := make(map[string]int) // token → position
	var tokens, tokenKeys []string
	for _, f := range fragments {
		for i, t := range f.plan.tokens {
			if _, ok := at[t]; !ok {
				at[t] = len(tokens)
				tokens, tokenKeys = append(tokens, t), append(tokenKeys, f.plan.tokenKeys[i])
			}
		}
	}
	keys := slices.Clone(tokenKeys)
	for _, f := range fragments {
		keys = append(keys, f.plan.fragment)
	}
	if c.cfg.guard {
		keys = append(keys, c.guardKey())
	}
	raw, err := c.redis.mget(ctx, c.redis.reads, keys)
	if err != nil {
		return nil, redisError("read fragments", err)
	}
	vals := make([]uint64, len(tokens))
	seeded, err := c.parseOrSeed(ctx, c.redis.read, tokens, tokenKeys, raw[:len(tokens)], vals)
	if err != nil {
		return nil, err
	}
	lapsed := c.cfg.guard && c.lapsed(ctx, raw[len(raw)-1])
	looks := make([]lookup, len(fragments))
	var extra []string
	for i, f := range fragments {
		l := &looks[i]
		l.seeded = seeded
		l.lapsed = lapsed
		for _, t := range f.plan.tokens {
			l.vals = append(l.vals, vals[at[t]])
		}
		l.static = sum(l.vals)
		stored := raw[len(tokens)+i]
		if stored == nil {
			l.why = WhyAbsent
			continue
		}
		e, err := parseEntry(stored, f.plan.found.Load().extra)
		if err != nil {
			l.why = WhyFormat
			continue
		}
		l.entry = &e
		extra = append(extra, e.extra...)
	}
	slices.Sort(extra)
	extra = slices.Compact(extra)
	more := make(map[string]uint64, len(extra))
	if len(extra) > 0 {
		raw, err := c.redis.mget(ctx, c.redis.reads, c.tokenKeys(extra))
		if err != nil {
			return nil, redisError("read tokens", err)
		}
		for i, r := range raw {
			if v, ok := parseToken(r); ok {
				more[extra[i]] = v
			}
		}
	}
	for i, f := range fragments {
		l := &looks[i]
		if l.entry == nil {
			continue
		}
		known, ok := make([]uint64, len(l.entry.extra)), true
		for j, t := range l.entry.extra {
			v, found := more[t]
			known[j], ok = v, ok && found
		}
		f.plan.remember(c, l.entry.extra)
		shared := l.entry.compressor == compressNone
		if l.finish(f.fc, known, ok); l.current && c.payloads != nil {
			if shared { // or else the smallest payload would keep the whole reply in memory
				l.entry.payload = slices.Clone(l.entry.payload)
			}
			c.payloads.set(f.plan.name, l.entry)
		}
	}
	return looks, nil
}
