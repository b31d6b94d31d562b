package icache

import (
	"context"
	"maps"
	"slices"
	"time"
)

// commit stores what was computed, under the version read before.
func (f *Fragment) commit(codec byte, payload []byte) {
	f.done = true
	f.event.Compute, f.event.Bytes = time.Since(f.computed), len(payload)
	e := &entry{codec: codec, payload: payload, version: f.look.static}
	f.entry = e

	col := f.col
	col.mu.Lock()
	extra, forbidden, limit, ttl := maps.Clone(col.extra), col.noStore, col.expires, f.fc.ttl
	if col.hasTTL {
		ttl = col.ttl
	}
	col.mu.Unlock()
	e.extra = slices.Sorted(maps.Keys(extra))
	for _, v := range extra {
		e.version += Version(v)
	}
	if len(e.extra) > 0 {
		f.event.Tokens = slices.Concat(f.plan.tokens, e.extra)
	}
	if forbidden {
		if f.event.Outcome == Miss {
			f.event.Outcome = Skipped
		}
		f.reportComputed(time.Time{})
		f.finishFlight(nil, nil)
		f.dropLease()
		f.end()
		return
	}
	f.event.Version = e.version
	if h := f.fc.holdoff; h > 0 {
		newest := f.newest(extra)
		if f.computed.Before(newest.Add(h)) {
			limit = earlier(limit, newest.Add(h))
		}
	}
	if !limit.IsZero() && (ttl <= 0 || time.Until(limit) < ttl) {
		ttl = max(time.Until(limit), time.Millisecond)
	}
	if f.c.seams.beforeStore != nil {
		f.c.seams.beforeStore(f, e)
	}
	b, err := f.c.marshal(f.fc, e, ttl)
	f.reportComputed(e.expires)
	// Those who wait get the result now; those who come while it is being
	// stored still find the flight.
	if f.flight != nil {
		f.flight.entry, f.flight.extra = e, extra
		close(f.flight.done)
	}
	if err == nil {
		err = f.store(b, e)
	}
	if f.flight != nil {
		f.c.flights.remove(f.flight)
		f.flight = nil
	}
	if err != nil {
		f.event.Outcome, f.event.Why, f.event.Err = Degraded, WhyError, err
		f.c.hookError(f.ctx, "store fragment", err)
	}
	f.end()
}

// newest is the time of the latest increment of a token of what was computed.
func (f *Fragment) newest(extra map[string]uint64) time.Time {
	var t uint64
	for _, v := range f.look.vals {
		t = max(t, v)
	}
	for _, v := range extra {
		t = max(t, v)
	}
	return time.UnixMicro(int64(t))
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// store writes the fragment and gives the lease back, in one round trip.
func (f *Fragment) store(b []byte, e *entry) error {
	ctx, cancel := f.storeContext()
	defer cancel()
	f.c.memo.set(f.plan.name, e.extra)
	f.c.payloads.set(f.plan.name, e)
	key := f.plan.fragment
	if f.lease == "" {
		if err := f.c.redis.read.Set(ctx, key, b, expiry(e.expires)).Err(); err != nil {
			return redisError("store fragment", err)
		}
		return nil
	}
	pipe := f.c.redis.read.Pipeline()
	pipe.Set(ctx, key, b, expiry(e.expires))
	pipe.Unlink(ctx, f.lease)
	f.lease = ""
	if _, err := pipe.Exec(ctx); err != nil {
		return redisError("store fragment", err)
	}
	return nil
}

// storeContext is for what must be done even if the caller has gone.
func (f *Fragment) storeContext() (context.Context, context.CancelFunc) {
	return f.c.redis.context(context.WithoutCancel(f.ctx))
}
