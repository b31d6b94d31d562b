package tmpl

import (
	"context"
	"errors"
	"slices"

	"github.com/icache-go/icache-agent/icache"
)

// Fragment names a piece of output and what it depends on.
type Fragment struct {
	// Name names the fragment. It is a token too, so that incrementing the
	// name outdates every entry of the fragment.
	Name string
	// Args are the tokens: strings, numbers, booleans, or values with
	// MarshalText or String. A [Key] among them (see [Vary]) tells entries
	// apart without being a token. Each different list of arguments is an
	// entry of its own.
	Args []any
	// Digest stands for the code that renders the fragment: another digest is
	// another entry, so that a deploy never serves what the code before it
	// rendered. Template engines fill it in from the source.
	Digest string
	// Options are passed on to the cache.
	Options []icache.FetchOption
}

// ID tells the entry from all others, also of other fragments. It fails like
// [Begin] if an argument cannot be a token.
func (f Fragment) ID() (string, error) {
	id, err := identify(f.Name, f.Digest, f.Args)
	if err != nil {
		return "", err
	}
	return string(appendArg(nil, 'n', f.Name)) + id.text, nil
}

// Block is a [Fragment] in the making, for engines that render it where it
// stands and cannot be called back. Everybody else uses [Write]. A Block is not
// safe for concurrent use.
type Block struct {
	ctx    context.Context
	found  *icache.Fragment // nil: uncached
	report *report          // nil: nobody observes
	done   bool
}

// Begin looks f up in c. If [Block.Hit] says so, what it returns is the output.
// Otherwise the caller renders, with [Block.Context] and into a buffer, and
// calls Commit, or Abort if that failed; others may be waiting for it.
//
// A nil c caches nothing. Begin fails if an argument cannot be a token
// ([*ArgError]) or if ctx has ended.
func Begin(ctx context.Context, c *icache.Cache, f Fragment) (*Block, error) {
	id, err := identify(f.Name, f.Digest, f.Args)
	if err != nil {
		return nil, err
	}
	b := &Block{ctx: ctx}
	opts := append(slices.Clip(f.Options), icache.Vary(id.text))
	if observe := observer(ctx); observe != nil {
		b.report = &report{ctx: ctx, observe: observe, cache: c, name: f.Name, tokens: id.tokens, opts: opts}
		b.ctx = deeper(ctx)
	}
	if c == nil {
		icache.NoStore(ctx) // a fragment around this one would not know its tokens
		return b, nil
	}
	found, err := c.Begin(b.ctx, f.Name, id.tokens, opts...)
	switch {
	case err == nil:
		b.found = found
		b.ctx = found.Context()
		if found.Hit() {
			b.done = true
			b.report.send(found, 0, nil)
			break
		}
		b.ctx = icache.ReadAhead(b.ctx, f.Name)
	case ctx.Err() != nil || errors.Is(err, icache.ErrBusy):
		return nil, err
	default:
		// Somebody else's rendering failed. Ours may do better, but nobody
		// knows the version of what it yields.
		icache.NoStore(ctx)
	}
	return b, nil
}

// Hit returns the output and true if it need not be rendered. It is shared
// with others and must not be changed.
func (b *Block) Hit() ([]byte, bool) {
	if b.found == nil || !b.found.Hit() {
		return nil, false
	}
	return b.found.Bytes(), true
}

// Event tells what the cache knows so far: after a hit or Commit, the tokens and
// the version. Without a cache it says that the cache was bypassed.
func (b *Block) Event() icache.Event {
	if b.found == nil {
		return icache.Event{Outcome: icache.Skipped, Why: icache.WhyBypass}
	}
	return b.found.Event()
}

// Context is the context to render with. It collects the tokens of fragments
// inside and of [icache.Depend].
func (b *Block) Context() context.Context { return b.ctx }

// Commit stores what was rendered. The output is not kept.
func (b *Block) Commit(output []byte) {
	if b.done {
		return
	}
	b.done = true
	if b.found != nil {
		b.found.Commit(output)
	}
	b.report.send(b.found, len(output), nil)
}

// Abort ends a block whose rendering failed: nothing is stored, and whoever
// waits for it gets err, or renders on its own if that is nil. After a hit,
// Commit or Abort it does nothing.
func (b *Block) Abort(err error) {
	if b.done {
		return
	}
	b.done = true
	if b.found != nil {
		b.found.Abort(err)
	}
	b.report.send(b.found, 0, err)
}
