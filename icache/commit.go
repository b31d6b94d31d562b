package icache

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// commit stores what was computed, under the version read before.
func (f *Fragment) commit(codec byte, payload []byte) {
	b, extra, err := f.prepare(codec, payload)
	if b == nil && err == nil { // not to be stored, nor shared
		f.finishFlight(nil, nil)
		f.dropLease()
		f.end()
		return
	}
	// Those who wait get the result now; those who come while it is being
	// stored still find the flight.
	if f.flight != nil {
		f.flight.entry, f.flight.extra = f.entry, extra
		close(f.flight.done)
	}
	if err == nil {
		err = f.store(b)
	}
	if f.flight != nil {
		f.c.flights.remove(f.flight)
		f.flight = nil
	}
	f.stored(err)
}

// prepare turns what was computed into an entry and returns its stored form,
// or nil if it is not to be stored, and the values of the tokens found on the
// way. It tells the fragments around f.
func (f *Fragment) prepare(codec byte, payload []byte) (b []byte, extra map[string]uint64, err error) {
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
	maps.DeleteFunc(extra, func(t string, _ uint64) bool { return f.isStatic(t) })
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
		return nil, nil, nil
	}
	f.event.Version = e.version
	if h := f.fc.holdoff; h > 0 {
		if newest := f.newest(extra); f.computed.Before(newest.Add(h)) {
			limit = earlier(limit, newest.Add(h))
		}
	}
	if !limit.IsZero() && (ttl <= 0 || time.Until(limit) < ttl) {
		ttl = max(time.Until(limit), time.Millisecond)
	}
	if f.c.seams.beforeStore != nil {
		f.c.seams.beforeStore(f, e)
	}
	b, err = f.c.marshal(f.fc, e, ttl)
	f.reportComputed(e.expires)
	return b, extra, err
}

func (f *Fragment) isStatic(token string) bool {
	_, ok := slices.BinarySearch(f.plan.tokens, token)
	return ok
}

// stored reports the end of a computation.
func (f *Fragment) stored(err error) {
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
func (f *Fragment) store(b []byte) error {
	ctx, cancel := f.storeContext()
	defer cancel()
	if f.lease == "" {
		if err := f.set(ctx, f.c.redis.read, b).Err(); err != nil {
			return redisError("store fragment", err)
		}
		return nil
	}
	pipe := f.c.redis.read.Pipeline()
	f.set(ctx, pipe, b)
	pipe.Unlink(ctx, f.lease)
	f.lease = ""
	if _, err := pipe.Exec(ctx); err != nil {
		return redisError("store fragment", err)
	}
	return nil
}

// set is the command that stores the fragment. What this process remembers of
// it changes too.
func (f *Fragment) set(ctx context.Context, rdb redis.Cmdable, b []byte) *redis.StatusCmd {
	f.plan.remember(f.c, f.entry.extra)
	f.c.payloads.set(f.plan.name, f.entry)
	return rdb.Set(ctx, f.plan.fragment, b, expiry(f.entry.expires))
}

// storeContext is for what must be done even if the caller has gone.
func (f *Fragment) storeContext() (context.Context, context.CancelFunc) {
	return f.c.redis.context(context.WithoutCancel(f.ctx))
}
