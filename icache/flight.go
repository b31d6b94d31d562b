package icache

import (
	"context"
	"sync"
)

// flights are the computations that run in this process, by fragment and
// version. Only a caller that has read its version may join one: a flight of
// an older version may have read its data before an increment that the caller
// must see. A flight by name alone would be wrong.
type flights struct {
	mu sync.Mutex
	m  map[flightKey]*flight
}

type flightKey struct {
	name    string
	version Version
}

// flight is one computation. Its result is set before done is closed.
type flight struct {
	key  flightKey
	done chan struct{}

	entry *entry            // nil: no result to share
	extra map[string]uint64 // values of entry.extra, as of before the data were read
	err   error             // of the computation, to share

	mu      sync.Mutex
	waiters int
	orphan  bool // the caller that computes has gone
	cancel  context.CancelCauseFunc
	cause   error
}

// join returns the flight for a key and whether the caller is to lead it.
func (g *flights) join(key flightKey) (fl *flight, leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if fl := g.m[key]; fl != nil {
		fl.mu.Lock()
		fl.waiters++
		fl.mu.Unlock()
		return fl, false
	}
	fl = &flight{key: key, done: make(chan struct{})}
	g.m[key] = fl
	return fl, true
}

// remove takes the flight off the list. Who has joined keeps it.
func (g *flights) remove(fl *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m[fl.key] == fl {
		delete(g.m, fl.key)
	}
}

// leave is called by one who stops waiting.
func (fl *flight) leave() {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.waiters--
	fl.cancelIfUnwanted()
}

// abandon is called when the context of the caller that computes ends.
func (fl *flight) abandon(cause error) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.orphan, fl.cause = true, cause
	fl.cancelIfUnwanted()
}

// cancelIfUnwanted must be called with mu locked.
func (fl *flight) cancelIfUnwanted() {
	if fl.orphan && fl.waiters == 0 && fl.cancel != nil {
		fl.cancel(fl.cause)
	}
}

// detach returns the context for the computation: it outlives ctx for as long
// as others wait for the result. stop releases it.
func (fl *flight) detach(ctx context.Context) (inner context.Context, stop func()) {
	if ctx.Done() == nil {
		return ctx, func() {}
	}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	fl.mu.Lock()
	fl.cancel = cancel
	fl.mu.Unlock()
	unwatch := context.AfterFunc(ctx, func() { fl.abandon(context.Cause(ctx)) })
	return inner, func() {
		unwatch()
		cancel(context.Canceled)
	}
}
