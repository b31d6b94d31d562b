package icache

import (
	"errors"
	"time"
)

// compute prepares the computation of a fragment that can be stored.
func (f *Fragment) compute() {
	f.col = &collector{c: f.c, parent: f.scope.col, flight: f.flight, static: f.plan.tokens}
	inner := f.ctx
	if f.flight != nil {
		var stop func()
		inner, stop = f.flight.detach(f.ctx)
		f.release = append(f.release, stop)
	}
	f.inner = withCollector(inner, f.col)
	f.event.Outcome = Miss
	f.startClock()
	f.inner, f.ended = f.c.hookCompute(f.inner, &f.event)
}

// degrade computes without Redis, within the limit set for that.
func (f *Fragment) degrade(o Outcome, why string, err error) error {
	if cerr := f.ctx.Err(); cerr != nil {
		return cerr
	}
	if err != nil && !errors.Is(err, errBreaker) {
		f.c.hookError(f.ctx, "fetch", err)
	}
	if f.c.slots != nil {
		select {
		case f.c.slots <- struct{}{}:
			f.release = append(f.release, func() { <-f.c.slots })
		case <-f.ctx.Done():
			return errors.Join(ErrBusy, f.ctx.Err())
		}
	}
	f.computeUncached(o, why, err)
	return nil
}

// computeUncached prepares a computation whose result is not stored, and which
// keeps the fragments around it from being stored: nobody knows its version.
func (f *Fragment) computeUncached(o Outcome, why string, err error) {
	if f.scope.col != nil {
		f.scope.col.forbid()
	}
	f.col = &collector{c: f.c, parent: f.scope.col, static: f.plan.tokens, noStore: true}
	f.inner = withCollector(f.ctx, f.col)
	f.event.Outcome, f.event.Why, f.event.Err, f.event.Version = o, why, err, 0
	f.startClock()
	if !f.batched {
		f.inner, f.ended = f.c.hookCompute(f.inner, &f.event)
	}
}

func (f *Fragment) startClock() {
	f.computed = time.Now()
	f.event.Redis = f.computed.Sub(f.start)
}
