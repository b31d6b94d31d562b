package icache

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlines bound round trips as [context.WithTimeout] would, at a tenth of
// its price: those that begin within a while of each other share a timer. So
// the bound is the timeout, or up to an eighth more.
type deadlines struct {
	timeout time.Duration // 0: no bound
	current atomic.Pointer[deadline]
}

// deadline is for round trips that begin before a moment.
type deadline struct {
	before, at time.Time
	done       chan struct{} // closed when it is reached
}

// context bounds one round trip that begins now. Call cancel when it is over.
func (ds *deadlines) context(ctx context.Context) (bounded context.Context, cancel context.CancelFunc) {
	if ds.timeout <= 0 {
		return ctx, func() {}
	}
	d := ds.get(time.Now())
	if at, ok := ctx.Deadline(); ok && at.Before(d.at) {
		return context.WithTimeout(ctx, ds.timeout)
	}
	return &bound{ctx, d}, func() {}
}

func (ds *deadlines) get(now time.Time) *deadline {
	d := ds.current.Load()
	if d != nil && now.Before(d.before) {
		return d
	}
	before := now.Add(ds.timeout / 8)
	next := &deadline{before: before, at: before.Add(ds.timeout), done: make(chan struct{})}
	if !ds.current.CompareAndSwap(d, next) {
		return ds.get(now)
	}
	time.AfterFunc(next.at.Sub(now), func() { close(next.done) })
	return next
}

// bound is the caller's context, with its values, until the deadline. That the
// caller's ends before goes unnoticed until then: the client would notice it
// only while it waits for a connection, not while it waits for Redis.
type bound struct {
	context.Context
	d *deadline
}

func (b *bound) Deadline() (time.Time, bool) { return b.d.at, true }
func (b *bound) Done() <-chan struct{}       { return b.d.done }

func (b *bound) Err() error {
	select {
	case <-b.d.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}
