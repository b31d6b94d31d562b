package icache

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// ReadAhead returns a context for rendering one page, under which fragments are
// read in few round trips: the first that is asked for brings along those that
// followed it when a page of the same kind was last made by this process, up to
// 1,000 of them and 1 MiB. So a page with 500 fragments takes one round trip
// instead of 500. Nothing has to be declared, and a wrong guess costs time only.
// Fragments inside others are read ahead by themselves, if they are needed.
//
// A hit is as fresh as the ReadAhead, and never more than a second behind: the
// guarantee of the package is for pages that start after an increment, not for
// each fragment of a page. What this Cache itself increments meanwhile is noticed
// at once. Before anything is computed its tokens are read anew.
//
// It works for [Fetch], [Cache.Begin] and [Cache.WriteTo]; not under [Pin]. If
// ctx has it already, it is returned as it is, and the page is part of that one.
func ReadAhead(ctx context.Context, kind string) context.Context {
	s := scopeOf(ctx)
	if s.ahead != nil || s.bypass {
		return ctx
	}
	s.ahead = newAhead(kind)
	return s.with(ctx)
}

const (
	maxAhead      = 1000        // fragments read at once
	maxAheadBytes = 1 << 20     // of payloads read at once
	aheadFor      = time.Second // for which they may be used
	// maxAheadIdle is how many fragments more than have been used may wait to
	// be used before nothing is read ahead any more: the page is not like the last.
	maxAheadIdle = 64
	// maxTrail bounds what is remembered of one page, maxTrailItems of all.
	maxTrail, maxTrailItems = 5000, 50_000
)

// ahead is what has been read for one page, at one depth of nesting.
type ahead struct {
	kind  string
	trail *trail

	mu    sync.Mutex
	cache *Cache           // the first that is used; others are left alone
	have  map[string]*read // by name of the fragment
	used  int
	idle  int  // read and not used
	bytes int  // of payloads used
	ended bool // a reading failed: it may have been too much
}

// read is the state of one fragment.
type read struct {
	look  lookup
	at    time.Time // before it was read; zero: it is not there
	incrs uint64    // of this process, by then
	used  bool
}

func newAhead(kind string) *ahead {
	return &ahead{kind: kind, trail: new(trail), have: make(map[string]*read)}
}

// inner is for what is inside a fragment. Whether that is needed depends on the
// fragment, so it is not read together with what is around it.
func (a *ahead) inner() *ahead {
	if a == nil {
		return nil
	}
	return newAhead(a.kind + "/")
}

// lookup looks a fragment up: in what was read ahead, or else with what is
// likely to follow, or alone.
func (a *ahead) lookup(ctx context.Context, c *Cache, p *plan, fc *fetchConfig) (lookup, error) {
	a.mu.Lock()
	if a.cache == nil {
		a.cache = c
	}
	if a.cache != c || len(a.have) >= maxTrail && a.have[p.name] == nil { // no page, but a context that lasts
		a.mu.Unlock()
		return c.lookupAlone(ctx, p, fc)
	}
	if r := a.have[p.name]; r != nil && r.trusted(c) {
		look := r.look
		a.use(r, p, fc, &look)
		a.mu.Unlock()
		if look.current {
			return look, nil
		}
		return c.lookupAlone(ctx, p, fc)
	}
	items := a.guess(c, p, fc)
	a.mu.Unlock()
	if len(items) > 1 {
		if look, ok := a.read(ctx, c, items); ok {
			return look, nil
		}
	}
	now, incrs := time.Now(), c.stats.incrs.Load()
	look, err := c.lookupAlone(ctx, p, fc)
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.have[p.name]
	if look.current {
		r.keep(look, now, incrs)
	}
	a.use(r, p, fc, &look)
	return look, err
}

// trusted reports whether a fragment that was read still counts as read now.
func (r *read) trusted(c *Cache) bool {
	if r.at.IsZero() || r.incrs != c.stats.incrs.Load() {
		return false
	}
	now := time.Now()
	return now.Sub(r.at) < aheadFor && (!r.look.current || !r.look.entry.expired(now))
}

func (r *read) keep(l lookup, at time.Time, incrs uint64) {
	if l.lapsed {
		l.current = false
	}
	r.look, r.at, r.incrs = l, at, incrs
}

// use notes that a fragment is used.
func (a *ahead) use(r *read, p *plan, fc *fetchConfig, l *lookup) {
	if !r.used {
		item := trailItem{plan: p, fc: fc}
		if l.entry != nil {
			item.size = len(l.entry.payload)
		}
		a.cache.trails.add(a.trail, item)
		r.used = true
		a.used++
		a.idle--
		a.bytes += item.size
	}
	if a.bytes > maxAheadBytes {
		// That it is used once more is not likely enough to keep it.
		*r = read{used: true}
	}
}

// guess returns p and what is worth reading with it.
func (a *ahead) guess(c *Cache, p *plan, fc *fetchConfig) []trailItem {
	known := c.trails.swap(trailKey{a.kind, p.name}, a.trail)
	if a.have[p.name] == nil {
		a.have[p.name] = new(read)
		a.idle++
	}
	if a.ended || a.idle > a.used+maxAheadIdle {
		return nil
	}
	items, size := []trailItem{{plan: p, fc: fc}}, 0
	for _, item := range known.after(p) {
		if len(items) == maxAhead || size > maxAheadBytes {
			break
		}
		r := a.have[item.plan.name]
		switch {
		case r == nil:
			a.have[item.plan.name] = new(read)
			a.idle++
		case r.used || r.at.IsZero() || r.trusted(c):
			continue // if it is not there, somebody else is reading it
		}
		items, size = append(items, item), size+item.size
	}
	return items
}

// read reads the items in one round trip and returns the first.
func (a *ahead) read(ctx context.Context, c *Cache, items []trailItem) (lookup, bool) {
	now, incrs := time.Now(), c.stats.incrs.Load()
	fragments := make([]*Fragment, len(items))
	filling := make([]*fill, len(items))
	for i, item := range items {
		f := new(Fragment)
		f.plan, f.fc = item.plan, item.fc
		fragments[i] = f
		if c.l1 != nil {
			filling[i] = c.l1.begin(item.plan.tokens)
		}
	}
	looks, err := c.lookupMany(ctx, fragments)
	if err != nil {
		// Alone it may be read in time.
		a.mu.Lock()
		a.ended = true
		a.mu.Unlock()
		return lookup{}, false
	}
	for i, item := range items {
		if l := &looks[i]; filling[i] != nil && l.current && len(l.extra) == 0 {
			if kept := c.payloads.get(item.plan.name); kept != nil {
				kept.l1.Store(filling[i].keep(l.vals, nil, l.entry))
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, item := range items {
		a.have[item.plan.name].keep(looks[i], now, incrs)
	}
	a.use(a.have[items[0].plan.name], items[0].plan, items[0].fc, &looks[0])
	return looks[0], true
}

// trail is the fragments that were used on one page, in order.
type trail struct {
	mu      sync.Mutex
	items   []trailItem
	keys    []trailKey // under which it was remembered
	holders int        // how many of them it still is under
}

type trailItem struct {
	plan *plan
	fc   *fetchConfig
	size int // of the payload when it was last seen
}

// add reports whether the trail is now so much longer that it is to be weighed.
func (t *trail) add(item trailItem) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.items) == maxTrail {
		return false
	}
	t.items = append(t.items, item)
	return powerOfTwo(len(t.items))
}

func (t *trail) hold(key trailKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holders++
	if len(t.keys) < maxTrail {
		t.keys = append(t.keys, key)
	}
}

// drop is the opposite of hold. It reports whether those that are left weigh
// so much more that they are to be weighed.
func (t *trail) drop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holders--
	return powerOfTwo(t.holders)
}

func powerOfTwo(n int) bool { return n > 0 && n&(n-1) == 0 }

// share is what each of its keys weighs for it.
func (t *trail) share() int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.items) / max(t.holders, 1)
}

// list returns the items so far.
func (t *trail) list() []trailItem {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.items // what there is of it does not change
}

// trails remembers, by fragment, what it was used together with.
type trails struct {
	once sync.Once
	c    *otter.Cache[trailKey, past]
}

type trailKey struct{ kind, name string }

// past is the last two trails that a fragment was not read ahead in.
type past struct{ last, before *trail }

// swap returns the past of a fragment and makes now its last trail.
func (ts *trails) swap(key trailKey, now *trail) past {
	ts.once.Do(func() {
		ts.c = otter.Must(&otter.Options[trailKey, past]{
			MaximumWeight: maxTrailItems,
			Weigher: func(_ trailKey, p past) uint32 {
				// The last may have just begun and will be like the one before.
				before := p.before.share()
				return uint32(1 + before + max(before, p.last.share()))
			},
		})
	})
	h, _ := ts.c.GetIfPresent(key)
	if h.last != now {
		now.hold(key)
		ts.c.Set(key, past{last: now, before: h.last})
		if h.before != nil && h.before.drop() {
			ts.weigh(h.before)
		}
	}
	return h
}

// add adds to a trail.
func (ts *trails) add(t *trail, item trailItem) {
	if t.add(item) {
		ts.weigh(t)
	}
}

// weigh tells the cache what the keys of a trail weigh by now.
func (ts *trails) weigh(t *trail) {
	t.mu.Lock()
	keys := t.keys
	t.mu.Unlock()
	for _, key := range keys {
		if h, ok := ts.c.GetIfPresent(key); ok && (h.last == t || h.before == t) {
			ts.c.Set(key, h)
		}
	}
}

// after returns what was used together with p the last time, and also the time
// before if there was one: first what came after it.
func (h past) after(p *plan) []trailItem {
	items := h.last.list()
	if before := h.before.list(); h.before != nil && !slices.EqualFunc(items, before, func(a, b trailItem) bool { return a.plan == b.plan }) {
		names := make(map[string]bool, len(before))
		for _, item := range before {
			names[item.plan.name] = true
		}
		both := make([]trailItem, 0, len(items))
		for _, item := range items {
			if names[item.plan.name] {
				both = append(both, item)
			}
		}
		items = both
	}
	at := slices.IndexFunc(items, func(item trailItem) bool { return item.plan.name == p.name })
	if at < 0 {
		return items
	}
	return slices.Concat(items[at+1:], items[:at])
}
