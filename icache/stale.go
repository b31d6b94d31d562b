package icache

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// staleWithin reports whether the outdated fragment may be served: there is
// one, and the latest increment of its tokens is at most d ago. After a token
// was absent nobody knows how long ago that was; whoever created it computes.
func (f *Fragment) staleWithin(d time.Duration) bool {
	l := &f.look
	return d > 0 && l.entry != nil && !l.current && !l.seeded &&
		(l.extraVals != nil || len(l.entry.extra) == 0) &&
		!l.entry.expired(time.Now()) && time.Since(l.newest()) <= d
}

// tryStale serves the outdated fragment if it may. Fragments around f are not
// stored then: nobody knows what their version would be.
func (f *Fragment) tryStale(d time.Duration) bool {
	if !f.staleWithin(d) || f.look.inflate(f.fc) != nil || f.accept(f.look.entry) != nil {
		return false
	}
	if f.scope.col != nil {
		f.scope.col.forbid()
	}
	f.hit(StaleHit, f.look.entry, f.look.entry.version)
	return true
}

// Stale returns the outdated fragment if [StaleOnError] lets it be served in
// place of one whose computation has failed. Call it before Abort.
func (f *Fragment) Stale() ([]byte, bool) {
	if f.done || !f.staleWithin(f.fc.staleOnError) || f.look.inflate(f.fc) != nil || f.accept(f.look.entry) != nil {
		return nil, false
	}
	f.event.Outcome = StaleHit
	if f.scope.col != nil {
		f.scope.col.forbid()
	}
	return f.look.entry.payload, true
}

// computeLater hands the flight that f leads to a computation in the
// background. It reports false if the cache is closed.
func (f *Fragment) computeLater() bool {
	u := f.use
	u.ctx, u.scope, u.start = withCollector(context.WithoutCancel(f.ctx), nil), scope{}, time.Now()
	g := &Fragment{use: u, look: f.look, flight: f.flight, event: f.event}
	// The entry is f's to serve; g only ever looks for a newer one.
	if e := f.look.entry; e != nil {
		clone := *e
		g.look.entry = &clone
	}
	g.accept = func(*entry) error { return nil }
	ok := f.c.background(func() {
		defer f.c.recovered(g.ctx, "background computation")
		if err := g.leadLater(); err != nil || g.Hit() {
			return
		}
		f.later(g)
	})
	if ok {
		f.flight = nil
	}
	return ok
}

// leadLater is lead without serving anything stale.
func (f *Fragment) leadLater() error {
	fc := *f.fc
	fc.stale = 0
	f.fc = &fc
	return f.lead()
}

// recovered keeps a panic of a computation in the background from ending the
// process.
func (c *Cache) recovered(ctx context.Context, op string) {
	if r := recover(); r != nil {
		c.hookError(ctx, op, fmt.Errorf("icache: panic: %v\n%s", r, debug.Stack()))
	}
}
