package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	texttemplate "text/template"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl"
)

// execution is the state of one execution of a template set. It is the writer
// that the set executes into and the receiver of the tag's functions.
type execution struct {
	ctx    context.Context
	cache  *icache.Cache
	w      io.Writer
	blocks []blockInfo // by number
	open   []openBlock
}

// openBlock is a block whose body is being captured.
type openBlock struct {
	*tmpl.Block
	buf *bytes.Buffer
}

// blockInfo is what an execution has to know of a block.
type blockInfo struct {
	digest string   // empty if the block must not be cached
	args   []string // as written in the template
	lead   []any    // values of the literals that they begin with
}

// buffers are reused for bodies of ordinary size.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxKeptBuffer = 1 << 20

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxKeptBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

// funcs returns the functions behind the tag.
func (x *execution) funcs() texttemplate.FuncMap {
	return texttemplate.FuncMap{openName: x.begin, closeName: x.end, varyName: tmpl.Vary, ctxName: x.context}
}

// Write captures output while a block is open and passes it on otherwise.
func (x *execution) Write(p []byte) (int, error) {
	if n := len(x.open); n > 0 {
		return x.open[n-1].buf.Write(p)
	}
	return x.w.Write(p)
}

// context is icachectx: the context of the innermost block, or else of the
// execution.
func (x *execution) context() context.Context {
	if n := len(x.open); n > 0 {
		return x.open[n-1].Context()
	}
	return x.ctx
}

// begin is {{if icache …}}: it reports whether the body has to be rendered.
func (x *execution) begin(id int, args ...any) (bool, error) {
	info := &x.blocks[id]
	if n := len(info.lead); n > 0 {
		args = append(info.lead[:n:n], args...)
	}
	name, ok := stringOf(args[0])
	if !ok {
		return false, fmt.Errorf("argument 1 (%s) names the fragment: want a string, not a %T", info.args[0], args[0])
	}
	cache := x.cache
	if info.digest == "" {
		cache = nil
	}
	b, err := tmpl.Begin(x.context(), cache, tmpl.Fragment{Name: name, Args: args[1:], Digest: info.digest})
	if err != nil {
		var bad *tmpl.ArgError
		if errors.As(err, &bad) && bad.Index <= len(info.args) {
			err = fmt.Errorf("fragment %q: argument %d (%s) %s", bad.Fragment, bad.Index, info.args[bad.Index-1], bad.Reason)
		}
		return false, err
	}
	if body, ok := b.Hit(); ok {
		if _, err := x.Write(body); err != nil {
			return false, err
		}
		return false, nil
	}
	x.open = append(x.open, openBlock{b, buffers.Get().(*bytes.Buffer)})
	return true, nil
}

// end is {{if endicache}}{{end}} at the end of a body.
func (x *execution) end() (bool, error) {
	n := len(x.open) - 1
	top := x.open[n]
	x.open = x.open[:n]
	defer putBuffer(top.buf)
	top.Commit(top.buf.Bytes())
	if _, err := x.Write(top.buf.Bytes()); err != nil {
		return false, err
	}
	return false, nil
}

// finish ends an execution that returned err, or nil if it panicked. Blocks
// that are still open have failed; the innermost goes first.
func (x *execution) finish(err error) {
	for n := len(x.open) - 1; n >= 0; n-- {
		x.open[n].Abort(err)
		putBuffer(x.open[n].buf)
		x.open[n] = openBlock{}
	}
	x.open = x.open[:0]
	x.ctx, x.w, x.cache = nil, nil, nil
}

// stringOf returns the value of any string type.
func stringOf(v any) (string, bool) {
	if s, ok := v.(string); ok {
		return s, true
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.String {
		return "", false
	}
	return rv.String(), true
}
