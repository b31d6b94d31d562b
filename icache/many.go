package icache

import (
	"context"
	"fmt"
	"slices"
)

// Request is one fragment of a [FetchMany]: its key and its tokens.
type Request struct {
	Key    string
	Tokens []string
}

// FetchMany is [Fetch] for a batch: one round trip reads all tokens and
// fragments, one call of load computes those that are missing, and one round
// trip stores them. load gets their positions in reqs, and returns their
// values in the same order.
//
// load must return as many values as it was asked for. An error of load is
// returned, without the values that were found, and nothing is stored.
//
// What load finds it depends on ([Depend], nested fragments) counts for every
// fragment that it was called for. Concurrent calls do not wait for each other,
// and take no leases; Stale, StaleOnError and WithVerify do not apply.
func FetchMany[T any](ctx context.Context, c *Cache, reqs []Request, load func(ctx context.Context, missing []int) ([]T, error), opts ...FetchOption) ([]T, error) {
	out := make([]T, len(reqs))
	b := &batch{c: c, ctx: ctx, fragments: make([]*Fragment, len(reqs))}
	for i, r := range reqs {
		f := newFragment(c.use(ctx, r.Key, r.Tokens, opts), nil)
		f.batched = true
		f.accept = func(e *entry) error { return decodeInto(f.fc.codec, e, &out[i]) }
		b.fragments[i] = f
	}
	if err := b.begin(); err != nil {
		return nil, err
	}
	if len(b.missing) == 0 {
		return out, nil
	}
	defer b.abort(nil) // a panic; otherwise it does nothing
	vals, err := load(b.inner, slices.Clone(b.missing))
	if err == nil && len(vals) != len(b.missing) {
		err = fmt.Errorf("icache: load returned %d values for %d fragments", len(vals), len(b.missing))
	}
	if err != nil {
		b.abort(err)
		return nil, err
	}
	payloads := make([]payload, len(vals))
	for j, i := range b.missing {
		out[i] = vals[j]
		p := &payloads[j]
		p.bytes, p.codec, p.err = encode(b.fragments[i].fc.codec, &vals[j])
		if p.codec == codecRaw {
			p.bytes = slices.Clone(p.bytes)
		}
	}
	b.commit(payloads)
	return out, nil
}

type payload struct {
	bytes []byte
	codec byte
	err   error
}

// batch is the fragments of one FetchMany.
type batch struct {
	c         *Cache
	ctx       context.Context
	inner     context.Context
	fragments []*Fragment
	missing   []int
}

// begin looks all fragments up and prepares the computation of the missing
// ones.
func (b *batch) begin() error {
	if len(b.fragments) == 0 {
		return nil
	}
	for i := range b.fragments {
		b.missing = append(b.missing, i)
	}
	first := b.fragments[0]
	if err := b.ctx.Err(); err != nil {
		return b.fail(err)
	}
	if first.scope.bypass {
		b.uncached(Skipped, WhyBypass, nil)
		return nil
	}
	looks, err := b.c.lookupMany(b.ctx, b.fragments)
	switch {
	case err != nil:
		if err := first.degrade(Degraded, WhyError, err); err != nil {
			return b.fail(err)
		}
		b.uncached(Degraded, WhyError, err)
		return nil
	case looks[0].lapsed:
		if err := first.degrade(Skipped, WhyGuard, nil); err != nil {
			return b.fail(err)
		}
		b.uncached(Skipped, WhyGuard, nil)
		return nil
	}
	b.missing = b.missing[:0]
	col := &collector{c: b.c, parent: first.scope.col}
	b.inner = withCollector(b.ctx, col)
	for i, f := range b.fragments {
		f.setLook(looks[i])
		if f.tryHit() {
			continue
		}
		b.missing = append(b.missing, i)
		f.col, f.inner = col, b.inner
		f.event.Outcome = Miss
		f.startClock()
	}
	return nil
}

func (b *batch) uncached(o Outcome, why string, err error) {
	for _, f := range b.fragments {
		f.computeUncached(o, why, err)
		b.inner = f.inner
	}
}

func (b *batch) fail(err error) error {
	for _, f := range b.fragments {
		_ = f.fail(err)
	}
	return err
}

func (b *batch) abort(err error) {
	for _, i := range b.missing {
		b.fragments[i].Abort(err)
	}
}

// commit stores what was computed in one round trip.
func (b *batch) commit(payloads []payload) {
	ctx, cancel := b.c.redis.context(context.WithoutCancel(b.ctx))
	defer cancel()
	pipe := b.c.redis.read.Pipeline()
	errs := make([]error, len(payloads))
	for j, i := range b.missing {
		f := b.fragments[i]
		if payloads[j].err != nil {
			b.c.hookError(b.ctx, "encode", payloads[j].err)
			f.Abort(payloads[j].err)
			continue
		}
		var bytes []byte
		if bytes, _, errs[j] = f.prepare(payloads[j].codec, payloads[j].bytes); bytes != nil {
			f.set(ctx, pipe, bytes)
		}
	}
	if pipe.Len() > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			errs[0] = redisError("store fragments", err)
		}
	}
	for j, i := range b.missing {
		if payloads[j].err == nil {
			b.fragments[i].stored(errs[j])
		}
	}
}
