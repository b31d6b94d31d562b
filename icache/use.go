package icache

import (
	"context"
	"slices"
	"time"
)

// use is one use of a fragment: what was asked for, where and when.
type use struct {
	c     *Cache
	ctx   context.Context
	fc    *fetchConfig
	plan  *plan
	scope scope
	start time.Time
}

func (c *Cache) use(ctx context.Context, key string, tokens []string, opts []FetchOption) use {
	fc := c.options(opts)
	return use{c: c, ctx: ctx, fc: fc, plan: c.plan(key, tokens, fc), scope: scopeOf(ctx), start: time.Now()}
}

// report tells the fragment that is being computed around it what this one
// depends on, with values that were read before the data.
func (u *use) report(vals []uint64, extra []string, extraVals []uint64, expires time.Time) {
	col := u.scope.col
	if col == nil {
		return
	}
	if col.c != u.c {
		col.forbid() // its tokens are in another Redis
		return
	}
	col.add(u.plan.tokens, vals)
	col.add(extra, extraVals)
	col.limit(expires)
}

// served counts a hit and tells the hooks.
func (u *use) served(l *lookup) {
	o := Hit
	if l.local {
		o = HitLocal
	}
	if len(u.c.cfg.hooks) == 0 {
		u.c.stats.outcome[o].Add(1)
		return
	}
	e := Event{
		Key: u.plan.key, Tokens: u.plan.tokens, Version: l.version(), Outcome: o,
		Bytes: len(l.entry.payload), Age: time.Since(l.entry.computed), Redis: time.Since(u.start),
	}
	if len(l.extra) > 0 {
		e.Tokens = slices.Concat(u.plan.tokens, l.extra)
	}
	u.c.hookFetch(u.ctx, &e)
}
