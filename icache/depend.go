package icache

import (
	"context"
	"slices"
	"sync"
	"time"
)

// collector gathers what a fragment turns out to depend on while it is being
// computed.
type collector struct {
	c      *Cache
	parent *collector
	flight *flight
	static []string // sorted: in the version anyway

	mu      sync.Mutex
	extra   map[string]uint64 // values as of before the data were read
	noStore bool
	expires time.Time // zero: no limit
	ttl     time.Duration
	hasTTL  bool
}

// Depend makes the fragment that is being computed under ctx, and every
// fragment around it, depend on more tokens. Call it before reading the data
// that they stand for: it reads, and creates, them now. Outside of a Fetch it
// does nothing. If the tokens cannot be read the fragment is not stored.
func Depend(ctx context.Context, tokens ...string) {
	s := scopeOf(ctx)
	col := s.col
	if col == nil || s.bypass {
		return
	}
	var missing []string
	col.mu.Lock()
	for _, t := range col.c.expand(tokens) {
		if _, ok := col.extra[t]; !ok && !col.isStatic(t) {
			missing = append(missing, t)
		}
	}
	skip := col.noStore
	col.mu.Unlock()
	if skip || len(missing) == 0 {
		return
	}
	vals, err := col.c.readTokens(ctx, col.c.redis.read, missing)
	if err != nil {
		col.c.hookError(ctx, "depend", err)
		col.forbid()
		return
	}
	col.add(missing, vals)
}

// NoStore keeps the fragment that is being computed under ctx, and those
// around it, from being stored: for example because the replica that answered
// lags behind.
func NoStore(ctx context.Context) {
	if col := scopeOf(ctx).col; col != nil {
		col.forbid()
	}
}

// SetTTL replaces the [TTL] of the fragment that is being computed under ctx.
// A fragment around it expires no later.
func SetTTL(ctx context.Context, d time.Duration) {
	if col := scopeOf(ctx).col; col != nil {
		col.mu.Lock()
		col.ttl, col.hasTTL = d, true
		col.mu.Unlock()
	}
}

func (col *collector) isStatic(token string) bool {
	_, ok := slices.BinarySearch(col.static, token)
	return ok
}

// add records tokens with their values. Of two values of a token the smaller
// stays: it was read earlier, and so were data. It need not be the one that is
// added first, since what Pin and ReadAhead have read is used later.
func (col *collector) add(tokens []string, vals []uint64) {
	col.mu.Lock()
	defer col.mu.Unlock()
	for i, t := range tokens {
		if v, ok := col.extra[t]; ok && v <= vals[i] || col.isStatic(t) {
			continue
		}
		if col.extra == nil {
			col.extra = make(map[string]uint64)
		}
		col.extra[t] = vals[i]
	}
}

func (col *collector) addMap(m map[string]uint64) {
	for t, v := range m {
		col.add([]string{t}, []uint64{v})
	}
}

func (col *collector) forbid() {
	col.mu.Lock()
	col.noStore = true
	col.mu.Unlock()
}

func (col *collector) limit(expires time.Time) {
	if expires.IsZero() {
		return
	}
	col.mu.Lock()
	if col.expires.IsZero() || expires.Before(col.expires) {
		col.expires = expires
	}
	col.mu.Unlock()
}

// leads reports whether the flight is one that the collector's fragment, or
// one around it, computes: to wait for it would be to wait for oneself.
func (col *collector) leads(fl *flight) bool {
	for ; col != nil; col = col.parent {
		if col.flight == fl {
			return true
		}
	}
	return false
}
