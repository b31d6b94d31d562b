package icache

import (
	"sync"
	"sync/atomic"
	"time"
)

// l1 keeps values of tokens in this process, next to the payloads, for
// WithTracking. Redis tells it of every increment; that it has told of all of
// them up to a moment is proved again and again, and without a proof that is
// young enough nothing is served.
//
// A generation holds everything. To forget everything, as after a connection
// was lost, is to begin a new one: what is still filled into the old one is
// never looked at.
type l1 struct {
	maxStale time.Duration
	gen      atomic.Pointer[l1Gen]
	proof    atomic.Int64 // ns since start: increments acknowledged before are known
	lease    atomic.Int64 // ns since start: the guard's lease, and grace, last until then
	start    time.Time
	guard    bool
	grace    time.Duration // GuardServe
}

// maxL1Tokens bounds a generation; beyond it a new one begins.
const maxL1Tokens = 200_000

type l1Gen struct {
	mu     sync.Mutex
	tokens map[string]*l1Token
}

// l1Token is a token as this process knows it. Readers look at value only.
type l1Token struct {
	value   atomic.Uint64 // 0: unknown
	mu      sync.Mutex
	changes uint64 // incremented with each invalidation
}

// l1Entry is a fragment with the tokens that it is current under.
type l1Entry struct {
	gen    *l1Gen
	tokens []*l1Token
	entry  *entry
}

func newL1(maxStale time.Duration, guard bool, grace time.Duration) *l1 {
	l := &l1{maxStale: maxStale, guard: guard, grace: grace, start: time.Now()}
	l.proof.Store(int64(-maxStale) - 1)
	l.clear()
	return l
}

func (l *l1) clear() { l.gen.Store(&l1Gen{tokens: make(map[string]*l1Token)}) }

// now is the time on the clock of proof and lease, which does not step.
func (l *l1) now() int64 { return int64(time.Since(l.start)) }

// fresh reports whether the tokens may be trusted at this moment.
func (l *l1) fresh() bool {
	now := l.now()
	return now-l.proof.Load() <= int64(l.maxStale) && (!l.guard || now < l.lease.Load())
}

// guarded records what is left of the guard's lease, counted from at.
func (l *l1) guarded(at int64, left time.Duration) {
	switch {
	case left > 0:
		l.lease.Store(at + int64(left+l.grace))
	case l.grace == 0:
		l.lease.Store(0)
	}
}

// prove records that everything up to the given time is known.
func (l *l1) prove(at int64) {
	for {
		old := l.proof.Load()
		if at <= old || l.proof.CompareAndSwap(old, at) {
			return
		}
	}
}

// current reports whether the entry may be served.
func (l *l1) current(e *l1Entry) bool {
	if e == nil || e.gen != l.gen.Load() {
		return false
	}
	var v Version
	for _, t := range e.tokens {
		x := t.value.Load()
		if x == 0 {
			return false
		}
		v += Version(x)
	}
	return v == e.entry.version && l.fresh() && (e.entry.expires.IsZero() || !e.entry.expired(time.Now()))
}

// invalidate forgets the values of tokens.
func (l *l1) invalidate(tokens ...string) {
	g := l.gen.Load()
	for _, name := range tokens {
		g.mu.Lock()
		t := g.tokens[name]
		g.mu.Unlock()
		if t != nil {
			t.mu.Lock()
			t.changes++
			t.value.Store(0)
			t.mu.Unlock()
		}
	}
}

// fill is a reading of tokens in progress: their values may be kept if none of
// them was invalidated between begin and keep.
type fill struct {
	gen     *l1Gen
	tokens  []*l1Token
	changes []uint64
}

// begin must be called before the tokens are read from Redis.
func (l *l1) begin(names ...[]string) *fill {
	f := &fill{gen: l.gen.Load()}
	f.gen.mu.Lock()
	full := len(f.gen.tokens) > maxL1Tokens
	for _, list := range names {
		for _, name := range list {
			t := f.gen.tokens[name]
			if t == nil {
				t = new(l1Token)
				f.gen.tokens[name] = t
			}
			f.tokens = append(f.tokens, t)
		}
	}
	f.gen.mu.Unlock()
	if full {
		l.clear()
	}
	f.changes = make([]uint64, len(f.tokens))
	for i, t := range f.tokens {
		t.mu.Lock()
		f.changes[i] = t.changes
		t.mu.Unlock()
	}
	return f
}

// keep records the values that were read and the fragment that is current
// under them.
func (f *fill) keep(vals, extraVals []uint64, e *entry) *l1Entry {
	if len(f.tokens) != len(vals)+len(extraVals) {
		return nil
	}
	for i, t := range f.tokens {
		all, at := vals, i
		if i >= len(vals) {
			all, at = extraVals, i-len(vals)
		}
		t.mu.Lock()
		if t.changes == f.changes[i] {
			t.value.Store(all[at])
		}
		t.mu.Unlock()
	}
	return &l1Entry{gen: f.gen, tokens: f.tokens, entry: e}
}

// local returns the fragment if it may be served without asking Redis.
func (c *Cache) local(p *plan) *l1Entry {
	if c.l1 == nil {
		return nil
	}
	le, ok := c.payloads.c.GetIfPresent(p.name)
	if !ok {
		return nil
	}
	e := le.l1.Load()
	if !c.l1.current(e) {
		return nil
	}
	return e
}

// lookupLocal is lookup without Redis.
func (c *Cache) lookupLocal(p *plan) (lookup, bool) {
	e := c.local(p)
	if e == nil {
		return lookup{}, false
	}
	l := lookup{entry: e.entry, extra: e.entry.extra, current: true, local: true}
	vals := make([]uint64, len(e.tokens))
	for i, t := range e.tokens {
		if vals[i] = t.value.Load(); vals[i] == 0 {
			return lookup{}, false
		}
	}
	n := len(p.tokens)
	l.vals, l.extraVals = vals[:n], vals[n:]
	l.static = sum(l.vals)
	return l, l.version() == e.entry.version
}
