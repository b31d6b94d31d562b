package icache

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
)

// Fetch returns the fragment, or calls fn for it and stores what that returns.
//
// A hit costs one round trip. On a miss, fn runs in the caller's goroutine, at
// most once at a time per process and version, and across processes once as
// long as the lease lasts; the other callers wait for the result. Each gets a
// copy of its own. An error of fn is returned to all of them and not stored.
// A panic is the caller's own; the others call fn themselves.
//
// If Redis fails, fn runs and its result is not stored. Fetch itself returns
// no errors but those of fn, of ctx, and [ErrBusy].
//
// key and tokens together identify the fragment: the same key with other
// tokens, or with another [Vary], is another fragment. Both may be any text.
// tokens may be empty if fn names them with [Depend]; a fragment without any is
// outdated by [Generation] alone.
//
// fn must pass on the context that it is given: through it the tokens of Depend
// and of a Fetch inside reach this fragment, and so do [NoStore] and [SetTTL].
// That context does not end with ctx while others wait. fn must read the current
// data, outside of any older snapshot; see [Bypass].
//
// T is []byte, a string type such as template.HTML, or anything that the codec
// can encode. With JSON, the default, fields that are not exported are there
// after a miss and empty after a hit. What cannot be encoded is returned, not
// stored, and reported to [Hooks]. T is no part of what identifies the
// fragment: after changing the type, change the key or use [WithEpoch], or what
// was stored before is decoded into the new type.
func Fetch[T any](ctx context.Context, c *Cache, key string, tokens []string, fn func(ctx context.Context) (T, error), opts ...FetchOption) (T, error) {
	if c.l1 != nil {
		if v, ok := fetchLocal[T](ctx, c, key, tokens, opts); ok {
			return v, nil
		}
	}
	return fetch(ctx, c, key, tokens, fn, opts)
}

// fetchLocal is the hit that needs neither Redis nor memory.
func fetchLocal[T any](ctx context.Context, c *Cache, key string, tokens []string, opts []FetchOption) (v T, ok bool) {
	if scopeOf(ctx) != (scope{}) || c.cfg.verify > 0 || ctx.Err() != nil {
		return v, false
	}
	fc := c.options(opts)
	p := c.plan(key, tokens, fc)
	e := c.local(p)
	if e == nil {
		return v, false
	}
	v, err := decoded[T](fc.codec, e.entry)
	if err != nil {
		return v, false
	}
	if len(c.cfg.hooks) == 0 {
		c.stats.outcome[HitLocal].Add(1)
		return v, true
	}
	c.hookFetch(ctx, &Event{
		Key: key, Tokens: slices.Concat(p.tokens, e.entry.extra), Version: e.entry.version,
		Outcome: HitLocal, Bytes: len(e.entry.payload),
	})
	return v, true
}

// decoded returns the value of a fragment. A string shares its memory.
func decoded[T any](codec Codec, e *entry) (v T, err error) {
	if rawKindOf[T]() == rawString && e.codec == codecRaw {
		return asString[T](text(e.payload)), nil
	}
	return decodeNew[T](codec, e)
}

// decodeNew allocates, even for a string; so it is a function of its own.
func decodeNew[T any](codec Codec, e *entry) (T, error) {
	var v, zero T
	if err := decode(codec, e.codec, e.payload, &v); err != nil {
		return zero, err
	}
	return v, nil
}

// fetch is a hit from Redis, which needs nothing that a Fragment keeps, or
// else computes.
func fetch[T any](ctx context.Context, c *Cache, key string, tokens []string, fn func(ctx context.Context) (T, error), opts []FetchOption) (T, error) {
	u := c.use(ctx, key, tokens, opts)
	if u.scope.bypass || ctx.Err() != nil || c.cfg.verify > 0 {
		return fetchSlow(u, nil, fn)
	}
	look, err := c.lookup(ctx, u.plan, u.fc)
	if err == nil && look.current && !look.lapsed {
		if v, err := decoded[T](u.fc.codec, look.entry); err == nil {
			u.report(look.vals, look.extra, look.extraVals, look.entry.expires)
			u.served(&look)
			return v, nil
		}
	}
	return fetchSlow(u, &attempt{look, err}, fn)
}

// fetchSlow is the rest of fetch; first is the lookup that has been made.
func fetchSlow[T any](u use, first *attempt, fn func(ctx context.Context) (T, error)) (T, error) {
	var v T
	f := newFragment(u, nil)
	f.first = first
	f.accept = func(e *entry) error { return decodeInto(f.fc.codec, e, &v) }
	f.later = func(f *Fragment) { _, _ = run(f, fn) } // its error is in the event
	if err := f.begin(); err != nil {
		var zero T
		return zero, err
	}
	if f.Hit() {
		if f.c.cfg.verify > 0 && f.event.Outcome <= HitLocal && rand.Float64() < f.c.cfg.verify {
			verify(f, fn)
		}
		return v, nil
	}
	fresh, err := run(f, fn)
	if err != nil && f.servedStale {
		return v, nil
	}
	return fresh, err
}

// run computes the fragment with fn.
func run[T any](f *Fragment, fn func(ctx context.Context) (T, error)) (T, error) {
	defer f.Abort(nil) // a panic or runtime.Goexit; otherwise it does nothing
	v, err := fn(f.Context())
	if err != nil {
		_, f.servedStale = f.Stale()
		f.Abort(err)
		return v, err
	}
	payload, id, err := encode(f.fc.codec, &v)
	if err != nil {
		// The caller has its value all the same.
		f.c.hookError(f.ctx, "encode", err)
		f.col.forbid()
		f.commit(id, nil)
		return v, nil
	}
	if id == codecRaw {
		payload = append([]byte(nil), payload...) // v is the caller's
	}
	f.commit(id, payload)
	return v, nil
}

// decodeInto decodes a payload into v, over what an earlier attempt has left.
func decodeInto[T any](codec Codec, e *entry, v *T) error {
	var zero T
	*v = zero
	return decode(codec, e.codec, e.payload, v)
}

// verify computes a hit again, beside, and reports a difference unless a token
// has changed meanwhile.
func verify[T any](f *Fragment, fn func(ctx context.Context) (T, error)) {
	c, ctx := f.c, withCollector(context.WithoutCancel(f.ctx), nil)
	c.background(func() {
		defer c.recovered(ctx, "verify")
		col := &collector{c: c, static: f.plan.tokens, noStore: true}
		v, err := fn(withCollector(ctx, col))
		if err != nil {
			c.hookError(ctx, "verify", err)
			return
		}
		fresh, _, err := encode(f.fc.codec, &v)
		if err != nil || bytes.Equal(fresh, f.entry.payload) {
			return
		}
		rctx, cancel := c.redis.context(ctx)
		defer cancel()
		look, err := c.read(rctx, f.plan, f.fc, nil) // from Redis, not from what is known here
		if err == nil && look.current && look.version() == f.event.Version {
			c.hookMismatch(ctx, f.event.Key, f.entry.payload, fresh)
		}
	})
}
