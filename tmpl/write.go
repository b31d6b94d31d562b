package tmpl

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/icache-go/icache-agent/icache"
)

// Write writes the fragment to w: from the cache, or else by calling fn and
// caching what that writes. It is the tag for everything that renders to an
// [io.Writer].
//
//	err := tmpl.Write(ctx, w, cache, "top", []any{"movies", tmpl.Vary(lang)}, page.Top)
//
// The name is the first token; args are as in [Fragment]. fn gets a context
// that collects the tokens of fragments inside. If it fails, its error is
// returned, and nothing is cached or written. If Redis fails, fn is called and nothing is cached.
func Write(ctx context.Context, w io.Writer, c *icache.Cache, name string, args []any, fn func(ctx context.Context, w io.Writer) error) error {
	return WriteFragment(ctx, w, c, Fragment{Name: name, Args: args}, fn)
}

// WriteFragment is Write for a Fragment with a digest or options.
func WriteFragment(ctx context.Context, w io.Writer, c *icache.Cache, f Fragment, fn func(ctx context.Context, w io.Writer) error) error {
	b, err := Begin(ctx, c, f)
	if err != nil {
		return err
	}
	if output, ok := b.Hit(); ok {
		_, err := w.Write(output)
		return err
	}
	buf := getBuffer()
	defer putBuffer(buf)
	defer b.Abort(nil) // if fn panics; otherwise it does nothing
	if err := fn(b.Context(), buf); err != nil {
		b.Abort(err)
		return err
	}
	b.Commit(buf.Bytes())
	_, err = w.Write(buf.Bytes())
	return err
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func getBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

// maxKeptBuffer keeps one huge page from holding memory for good.
const maxKeptBuffer = 1 << 20

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxKeptBuffer {
		b.Reset()
		buffers.Put(b)
	}
}
