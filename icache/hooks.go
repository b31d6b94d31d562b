package icache

import (
	"context"
	"sync/atomic"
	"time"
)

// Outcome says how a Fetch was answered.
type Outcome uint8

// The outcomes.
const (
	Hit      Outcome = iota // from Redis
	HitLocal                // from the memory of this process: with WithPayloadCache after asking Redis, with WithTracking without
	Shared                  // computed by another caller
	StaleHit                // an outdated fragment, by permission
	Miss                    // computed and stored
	Skipped                 // computed and not stored: Bypass, NoStore, an error
	Degraded                // computed and not stored because Redis failed
)

var outcomes = [...]string{"hit", "hit-local", "shared", "stale", "miss", "skipped", "degraded"}

// String returns the outcome in lower case.
func (o Outcome) String() string { return outcomes[o] }

// Served reports whether nothing had to be computed.
func (o Outcome) Served() bool { return o <= StaleHit }

// Reasons why a Fetch was not a hit, in [Event.Why].
const (
	WhyAbsent  = "absent"  // no fragment
	WhyBypass  = "bypass"  // the context says so
	WhyError   = "error"   // Redis failed
	WhyFormat  = "format"  // the fragment is not of this format, codec or compressor
	WhyGuard   = "guard"   // the guard's lease has lapsed
	WhySeeded  = "seeded"  // a token was absent
	WhyVersion = "version" // a token has been incremented
)

// Event describes one Fetch.
type Event struct {
	Key     string        // as given to Fetch
	Tokens  []string      // all tokens in the version; read only
	Version Version       // 0 if unknown
	Outcome Outcome       //
	Why     string        // why it was not a hit
	Bytes   int           // size of the payload
	Age     time.Duration // of what a hit served, since it was computed
	Redis   time.Duration // until the answer, or until the computation began: Redis, and waiting for others
	Compute time.Duration // spent computing
	Err     error         // of Redis or of the computation
}

// IncrEvent describes one increment of some tokens.
type IncrEvent struct {
	Tokens   []string // read only
	Unlinked int      // how many were deleted instead, because Redis was out of memory
	Duration time.Duration
	Err      error // an *IncrError or nil
}

// Hooks are optional callbacks, in the style of net/http/httptrace. They are
// called synchronously, from many goroutines at once, and must not block.
type Hooks struct {
	// Fetch is called when a Fetch ends.
	Fetch func(ctx context.Context, e Event)
	// Compute is called before a computation begins, with what is known by then,
	// Outcome and Why among it. The computation gets the context it returns,
	// which must come from ctx: a span in it becomes the parent of what the
	// computation does. If ended is not nil it is called at the end, in place of
	// Fetch. It is not called for FetchMany, nor for WithVerify.
	Compute func(ctx context.Context, e Event) (inner context.Context, ended func(e Event))
	Incr    func(ctx context.Context, e IncrEvent)
	// Error is called for errors that nobody gets to see otherwise. op is one of
	// a few words that say what was being done, such as "store fragment".
	Error func(ctx context.Context, op string, err error)
	// Mismatch is called by [WithVerify] for a fragment that is not what its
	// computation yields: some token is missing from it, or from a mapping.
	Mismatch func(ctx context.Context, key string, cached, fresh []byte)
}

func (c *Cache) hookFetch(ctx context.Context, e *Event) {
	c.stats.outcome[e.Outcome].Add(1)
	for i := range c.cfg.hooks {
		if f := c.cfg.hooks[i].Fetch; f != nil {
			f(ctx, *e)
		}
	}
}

// hookCompute returns the context for a computation, and what is to be called
// when it ends, by position in the hooks.
func (c *Cache) hookCompute(ctx context.Context, e *Event) (context.Context, []func(Event)) {
	var ended []func(Event)
	for i := range c.cfg.hooks {
		f := c.cfg.hooks[i].Compute
		if f == nil {
			continue
		}
		if ended == nil {
			ended = make([]func(Event), len(c.cfg.hooks))
		}
		ctx, ended[i] = f(ctx, *e)
	}
	return ctx, ended
}

// hookEnd is hookFetch after a computation.
func (c *Cache) hookEnd(ctx context.Context, e *Event, ended []func(Event)) {
	if ended == nil {
		c.hookFetch(ctx, e)
		return
	}
	c.stats.outcome[e.Outcome].Add(1)
	for i := range c.cfg.hooks {
		if ended[i] != nil {
			ended[i](*e)
		} else if f := c.cfg.hooks[i].Fetch; f != nil {
			f(ctx, *e)
		}
	}
}

func (c *Cache) hookIncr(ctx context.Context, e IncrEvent) {
	for i := range c.cfg.hooks {
		if f := c.cfg.hooks[i].Incr; f != nil {
			f(ctx, e)
		}
	}
}

func (c *Cache) hookError(ctx context.Context, op string, err error) {
	c.stats.errors.Add(1)
	for i := range c.cfg.hooks {
		if f := c.cfg.hooks[i].Error; f != nil {
			f(ctx, op, err)
		}
	}
}

func (c *Cache) hookMismatch(ctx context.Context, key string, cached, fresh []byte) {
	for i := range c.cfg.hooks {
		if f := c.cfg.hooks[i].Mismatch; f != nil {
			f(ctx, key, cached, fresh)
		}
	}
}

// Stats are counters since New.
type Stats struct {
	Hits, LocalHits, Shared, Stale, Misses, Skipped, Degraded uint64

	Incrs      uint64 // tokens incremented
	Seeds      uint64 // tokens created by readers
	LeaseWaits uint64 // fetches that waited for another process
	Errors     uint64 // calls of Hooks.Error
}

type counters struct {
	outcome                          [len(outcomes)]atomic.Uint64
	incrs, seeds, leaseWaits, errors atomic.Uint64
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	o := &c.stats.outcome
	return Stats{
		Hits: o[Hit].Load(), LocalHits: o[HitLocal].Load(), Shared: o[Shared].Load(), Stale: o[StaleHit].Load(),
		Misses: o[Miss].Load(), Skipped: o[Skipped].Load(), Degraded: o[Degraded].Load(),
		Incrs: c.stats.incrs.Load(), Seeds: c.stats.seeds.Load(), LeaseWaits: c.stats.leaseWaits.Load(), Errors: c.stats.errors.Load(),
	}
}
