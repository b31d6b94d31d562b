package icache

import (
	"bytes"
	"context"
	"io"
)

// WriteTo writes a fragment to w: straight from the cache, or while fn
// computes it. If fn or w fails the fragment is not stored, and what was
// written stays written. The error is that of fn, of w, of ctx, or [ErrBusy].
func (c *Cache) WriteTo(ctx context.Context, w io.Writer, key string, tokens []string, fn func(ctx context.Context, w io.Writer) error, opts ...FetchOption) error {
	f, err := c.Begin(ctx, key, tokens, opts...)
	if err != nil {
		return err
	}
	if f.Hit() {
		_, err := w.Write(f.Bytes())
		return err
	}
	defer f.Abort(nil)
	var b bytes.Buffer
	if err := fn(f.Context(), io.MultiWriter(w, &b)); err != nil {
		f.Abort(err)
		return err
	}
	f.commit(codecRaw, b.Bytes())
	return nil
}
