package icache

import (
	"context"
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
// tokens, or with another [Vary], is another fragment. The context given to fn
// does not end with ctx while others wait; see also [Depend], [NoStore],
// [SetTTL]. fn must read the current data, outside of any older snapshot; see
// [Bypass].
func Fetch[T any](ctx context.Context, c *Cache, key string, tokens []string, fn func(ctx context.Context) (T, error), opts ...FetchOption) (T, error) {
	var v T
	var fc *fetchConfig
	f, err := c.begin(ctx, key, tokens, opts, func(e *entry) error {
		if fc == nil {
			fc = c.options(opts)
		}
		var zero T
		v = zero // what an earlier attempt has left
		return decode(fc.codec, e.codec, e.payload, &v)
	})
	if err != nil {
		var zero T
		return zero, err
	}
	if f.Hit() {
		return v, nil
	}
	return run(f, fn)
}

// run computes the fragment with fn.
func run[T any](f *Fragment, fn func(ctx context.Context) (T, error)) (T, error) {
	defer f.Abort(nil) // a panic or runtime.Goexit; otherwise it does nothing
	v, err := fn(f.Context())
	if err != nil {
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
