package icache

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Fragment is one use of a fragment: what [Cache.Begin] found, and if that is
// nothing, the obligation to compute it and to call Commit or Abort. It is for
// callers that cannot put the computation into a function, such as template
// engines; everybody else uses [Fetch]. A Fragment belongs to one goroutine.
type Fragment struct {
	use
	first  *attempt // the first lookup, if it has been made
	accept func(*entry) error
	// later computes the fragment in the background with another Fragment;
	// nil if the caller cannot be called back.
	later func(*Fragment)

	look    lookup
	col     *collector
	flight  *flight
	lease   string // key of the lease it holds
	inner   context.Context
	release []func()
	entry   *entry
	done    bool
	// servedStale: the computation failed and StaleOnError applies.
	servedStale bool

	computed time.Time // when the computation began
	ended    []func(Event)
	batched  bool // one of a FetchMany
	event    Event
}

// Begin looks a fragment up, like Fetch with the same arguments. If Hit
// reports false the caller must compute the fragment, with the Fragment's
// Context, and then call Commit, or Abort if that failed; other callers may be
// waiting for it. The error is the context's, [ErrBusy], or that of another
// caller's computation.
func (c *Cache) Begin(ctx context.Context, key string, tokens []string, opts ...FetchOption) (*Fragment, error) {
	f := newFragment(c.use(ctx, key, tokens, opts), func(e *entry) error {
		if e.codec != codecRaw {
			return errFormat
		}
		return nil
	})
	if err := f.begin(); err != nil {
		return nil, err
	}
	return f, nil
}

func newFragment(u use, accept func(*entry) error) *Fragment {
	f := &Fragment{use: u, accept: accept}
	f.event.Key, f.event.Tokens = u.plan.key, u.plan.tokens
	return f
}

func (f *Fragment) begin() error {
	if err := f.ctx.Err(); err != nil {
		return f.fail(err)
	}
	if f.scope.bypass {
		f.computeUncached(Skipped, WhyBypass, nil)
		return nil
	}
	if err := f.resolve(); err != nil {
		return f.fail(err)
	}
	return nil
}

// resolve ends with a hit or with f computing.
func (f *Fragment) resolve() error {
	for range 8 {
		look, err := f.lookup()
		if err != nil {
			return f.degrade(Degraded, WhyError, err)
		}
		if look.lapsed {
			return f.degrade(Skipped, WhyGuard, nil)
		}
		f.setLook(look)
		if f.tryHit() {
			return nil
		}
		fl, leads := f.c.flights.join(f.flightKey())
		if leads {
			f.flight = fl
			return f.lead()
		}
		if f.tryStale(f.fc.stale) {
			fl.leave()
			return nil
		}
		if f.scope.col.leads(fl) {
			fl.leave()
			break
		}
		again, err := f.follow(fl)
		if err != nil || f.Hit() {
			return err
		}
		if !again {
			break
		}
	}
	f.compute()
	return nil
}

// attempt is the outcome of a lookup.
type attempt struct {
	look lookup
	err  error
}

// lookup looks the fragment up, unless that has just been done.
func (f *Fragment) lookup() (lookup, error) {
	if a := f.first; a != nil {
		f.first = nil
		return a.look, a.err
	}
	return f.c.lookup(f.ctx, f.plan, f.fc)
}

func (f *Fragment) setLook(l lookup) {
	f.look = l
	f.event.Why, f.event.Version = l.why, l.static
}

func (f *Fragment) flightKey() flightKey {
	key := flightKey{f.plan.name, f.look.static}
	if f.c.seams.flightByName {
		key.version = 0
	}
	return key
}

// tryHit serves the fragment that was looked up if it is current.
func (f *Fragment) tryHit() bool {
	if !f.look.current {
		return false
	}
	o := Hit
	if f.look.local {
		o = HitLocal
	}
	if err := f.accept(f.look.entry); err != nil {
		f.look.current = false
		f.event.Why = WhyFormat
		return false
	}
	e := f.look.entry
	f.report(f.look.vals, f.look.extra, f.look.extraVals, e.expires)
	f.hit(o, e, f.look.version())
	return true
}

func (f *Fragment) hit(o Outcome, e *entry, v Version) {
	f.entry, f.done = e, true
	f.event.Outcome, f.event.Version, f.event.Bytes = o, v, len(e.payload)
	f.event.Age = time.Since(e.computed)
	if len(e.extra) > 0 {
		f.event.Tokens = slices.Concat(f.plan.tokens, e.extra)
	}
	f.event.Redis = time.Since(f.start)
	f.c.hookFetch(f.ctx, &f.event)
}

// fail reports a Fetch that ended with an error before it computed anything.
func (f *Fragment) fail(err error) error {
	f.done = true
	f.event.Outcome, f.event.Err = Skipped, err
	f.event.Redis = time.Since(f.start)
	f.c.hookFetch(f.ctx, &f.event)
	return err
}

// Hit reports whether Bytes has the fragment.
func (f *Fragment) Hit() bool { return f.entry != nil }

// Bytes returns the fragment, which is shared with others: do not change it.
// It is nil before Commit if Hit reports false.
func (f *Fragment) Bytes() []byte {
	if f.entry == nil {
		return nil
	}
	return f.entry.payload
}

// Context returns the context to compute with. It collects the tokens of
// nested fragments and of [Depend], and it lasts until Commit or Abort, even
// if the one given to Begin ends, for as long as others wait for the result.
func (f *Fragment) Context() context.Context {
	if f.inner == nil {
		return f.ctx
	}
	return f.inner
}

// Event describes what has happened so far.
func (f *Fragment) Event() Event { return f.event }

// Commit stores the computed fragment and gives it to those who wait for it.
// It does nothing after a hit, Commit or Abort. The payload is not kept.
func (f *Fragment) Commit(payload []byte) {
	if !f.done {
		f.commit(codecRaw, slices.Clone(payload))
	}
}

// Abort ends a computation that has failed. Those who wait for it get err; if
// it is nil, as after a panic, they compute for themselves.
func (f *Fragment) Abort(err error) {
	if f.done {
		return
	}
	f.done = true
	f.reportComputed(time.Time{})
	if f.event.Outcome == Miss {
		f.event.Outcome = Skipped
	}
	if f.event.Outcome != StaleHit {
		f.event.Version = 0
	}
	f.event.Compute, f.event.Err = time.Since(f.computed), err
	if f.flight != nil && f.ctx.Err() == nil && err != nil {
		f.flight.err = err
	}
	f.finishFlight(nil, nil)
	f.dropLease()
	f.end()
}

// reportComputed is report for a fragment that f has computed itself. An
// uncached one has told the fragments around it already.
func (f *Fragment) reportComputed(expires time.Time) {
	if f.scope.col == nil || f.look.vals == nil {
		return
	}
	f.col.mu.Lock()
	extra, forbidden := maps.Clone(f.col.extra), f.col.noStore
	f.col.mu.Unlock()
	f.report(f.look.vals, nil, nil, expires)
	f.scope.col.addMap(extra)
	if forbidden {
		f.scope.col.forbid()
	}
}

func (f *Fragment) finishFlight(e *entry, extra map[string]uint64) {
	if f.flight == nil {
		return
	}
	f.flight.entry, f.flight.extra = e, extra
	close(f.flight.done)
	f.c.flights.remove(f.flight)
	f.flight = nil
}

func (f *Fragment) end() {
	for _, r := range f.release {
		r()
	}
	f.release = nil
	f.c.hookEnd(f.ctx, &f.event, f.ended)
}
