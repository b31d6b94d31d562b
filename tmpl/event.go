package tmpl

import (
	"context"
	"time"

	"github.com/icache-go/icache-agent/icache"
)

// Event tells what became of one [Fragment].
type Event struct {
	Name    string         // of the fragment
	Key     string         // of the entry, without the prefix it has in Redis
	Tokens  []string       // what it depends on: its own tokens and those of the fragments inside; read only
	Version icache.Version // the sum of the tokens; 0 if unknown
	Outcome icache.Outcome // hit, miss, …
	Why     string         // why it was not a hit, see [icache.WhyAbsent] and others
	Age     time.Duration  // since it was rendered; 0 if it was just now
	Bytes   int            // size of the output
	Depth   int            // number of fragments around it
	Err     error          // of Redis, or of rendering
}

// Observer receives an Event for each fragment when its output is complete,
// the inner ones of a miss before the outer, and for a hit the outer alone. It is
// called on the goroutine that renders and must not block.
type Observer func(ctx context.Context, e Event)

type observerKey struct{}

// WithObserver returns a context under which fn receives an Event for each
// fragment, in every engine: a page can show what it was made of. Output is the
// same with and without.
func WithObserver(ctx context.Context, fn Observer) context.Context {
	if outer := observer(ctx); outer != nil {
		inner := fn
		fn = func(ctx context.Context, e Event) {
			inner(ctx, e)
			outer(ctx, e)
		}
	}
	return context.WithValue(ctx, observerKey{}, fn)
}

func observer(ctx context.Context) Observer {
	fn, _ := ctx.Value(observerKey{}).(Observer)
	return fn
}

// report is what an observer has to be told of a block.
type report struct {
	ctx     context.Context
	observe Observer
	cache   *icache.Cache
	name    string
	tokens  []string
	opts    []icache.FetchOption
}

// send tells the observer, if there is one, what became of the block: what the
// cache says, or without one that n bytes were rendered.
func (r *report) send(found *icache.Fragment, n int, err error) {
	if r == nil {
		return
	}
	e := Event{Name: r.name, Tokens: r.tokens, Outcome: icache.Skipped, Why: icache.WhyBypass, Bytes: n, Depth: depth(r.ctx), Err: err}
	if found != nil {
		f := found.Event()
		e.Key = r.cache.FragmentKey(r.name, r.tokens, r.opts...)
		e.Tokens, e.Version, e.Outcome, e.Why = f.Tokens, f.Version, f.Outcome, f.Why
		e.Age, e.Bytes, e.Err = max(0, f.Age), f.Bytes, f.Err
	}
	r.observe(r.ctx, e)
}

type depthKey struct{}

// depth is the number of fragments around ctx. It is kept for observers only.
func depth(ctx context.Context) int {
	n, _ := ctx.Value(depthKey{}).(int)
	return n
}

func deeper(ctx context.Context) context.Context {
	return context.WithValue(ctx, depthKey{}, depth(ctx)+1)
}
