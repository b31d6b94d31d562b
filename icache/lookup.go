package icache

import (
	"context"
	"slices"
	"time"
)

// lookup is the state of a fragment and its tokens at one moment.
type lookup struct {
	vals      []uint64 // of the plan's tokens
	static    Version  // their sum
	extra     []string // the stored fragment's extra tokens, if all exist
	extraVals []uint64 // their values
	entry     *entry   // the stored fragment; its payload is decompressed if it is current
	current   bool     // entry has the version of the tokens
	local     bool     // entry is from the payload cache
	pinned    bool     // some of vals may be old
	seeded    bool     // a token was absent
	lapsed    bool     // the guard's lease is gone
	why       string   // why it is not current
}

// version is that of the stored fragment, if it is current.
func (l *lookup) version() Version { return l.static + sum(l.extraVals) }

// newest is the time of the latest increment or creation of a token.
func (l *lookup) newest() time.Time {
	var t uint64
	for _, v := range l.vals {
		t = max(t, v)
	}
	for _, v := range l.extraVals {
		t = max(t, v)
	}
	return time.UnixMicro(int64(t))
}

// lookup reads tokens and fragment in one round trip: one more if a token is
// absent, and one more if the fragment has extra tokens that this process did
// not know of; on a Cluster, for any extra tokens. Values need not be read at one
// moment; see the package documentation for why.
func (c *Cache) lookup(ctx context.Context, p *plan, fc *fetchConfig) (lookup, error) {
	if l, ok := c.lookupLocal(p); ok {
		return l, nil
	}
	if s := scopeOf(ctx); s.ahead != nil && s.pin == nil {
		return s.ahead.lookup(ctx, c, p, fc)
	}
	return c.lookupAlone(ctx, p, fc)
}

// lookupAlone is lookup without regard to what else the page needs.
func (c *Cache) lookupAlone(ctx context.Context, p *plan, fc *fetchConfig) (lookup, error) {
	if !c.breaker.allow() {
		return lookup{}, errBreaker
	}
	rctx, cancel := c.redis.context(ctx)
	defer cancel()
	pin := scopeOf(ctx).pin
	l, err := c.read(rctx, p, fc, pin)
	if err == nil && l.pinned && !l.current {
		l, err = c.read(rctx, p, fc, nil)
	}
	if err == nil && pin != nil {
		pin.set(c, p.tokens, l.vals)
		pin.set(c, l.extra, l.extraVals)
	}
	if ctx.Err() == nil {
		c.breaker.report(err)
	}
	return l, err
}

// read is one attempt, with the values that pin has, if it is not nil.
func (c *Cache) read(ctx context.Context, p *plan, fc *fetchConfig, pin *pinned) (lookup, error) {
	local := c.payloads.get(p.name)
	var extra []string
	switch {
	case local != nil:
		extra = local.extra
	case !c.redis.cluster:
		// Extra tokens must not be read before the fragment: the computation
		// that stored it may have read some data long before such a token, and
		// two differences could cancel out. One MGET reads everything at one
		// moment; a pipeline to several servers does not.
		extra = p.found.Load().extra
	}
	tokens, tokenKeys := p.tokens, p.tokenKeys
	l := lookup{vals: make([]uint64, len(p.tokens))}
	var unknown []int
	if pin != nil {
		unknown = pin.get(c, tokens, l.vals)
		l.pinned = len(unknown) < len(tokens)
		tokens, tokenKeys = pick(tokens, unknown), pick(tokenKeys, unknown)
	}
	var cmds *commands
	if l.pinned {
		cmds = c.commands(tokenKeys, extra, p.fragment)
	} else {
		cmds = p.commands(c, extra)
	}
	args := cmds.whole
	if local != nil {
		args = cmds.checks
	}
	var filling *fill
	if c.l1 != nil && !l.pinned {
		filling = c.l1.begin(p.tokens, extra)
	}
	var space [16][]byte
	raw := values(space[:0])
	var err error
	if len(args) > 1 {
		if raw, err = c.redis.mgetArgs(ctx, c.redis.reads, args, raw); err != nil {
			return l, redisError("read fragment", err)
		}
	}
	n := len(tokens)
	vals := l.vals
	if pin != nil {
		vals = make([]uint64, n)
	}
	if l.seeded, err = c.parseOrSeed(ctx, c.redis.read, tokens, tokenKeys, raw[:n], vals); err != nil {
		return l, err
	}
	for i, u := range unknown {
		l.vals[u] = vals[i]
	}
	l.static = sum(l.vals)
	l.lapsed = c.cfg.guard && c.lapsed(ctx, raw[n+len(extra)])
	known, ok := parseAll(raw[n : n+len(extra)])
	if local != nil {
		if ok && local.version == l.static+sum(known) {
			l.entry, l.extra, l.extraVals, l.current, l.local = local.entry, extra, known, true, true
			if filling != nil {
				local.l1.Store(filling.keep(l.vals, known, local.entry))
			}
			return l, nil
		}
		if raw, err = c.redis.mget(ctx, c.redis.reads, []string{p.fragment}); err != nil {
			return l, redisError("read fragment", err)
		}
		extra, known, ok = nil, nil, true
	}
	stored := raw[len(raw)-1]
	if stored == nil {
		l.why = WhyAbsent
		return l, nil
	}
	e, bad := parseEntry(stored, extra)
	if bad != nil {
		l.why = WhyFormat
		return l, nil //nolint:nilerr // a fragment that cannot be read is a miss
	}
	if !slices.Equal(extra, e.extra) {
		filling = nil // of other tokens
		p.remember(c, e.extra)
		if known, ok, err = c.readExtra(ctx, e.extra); err != nil {
			return l, err
		}
	}
	l.entry = &e
	l.finish(fc, known, ok)
	if l.current {
		kept := c.payloads.set(p.name, l.entry)
		if kept != nil && filling != nil {
			kept.l1.Store(filling.keep(l.vals, known, l.entry))
		}
	}
	return l, nil
}

// finish decides whether the stored fragment is current, given the values of
// its extra tokens if all of them exist.
func (l *lookup) finish(fc *fetchConfig, known []uint64, ok bool) {
	e := l.entry
	if ok {
		l.extra, l.extraVals = e.extra, known
	}
	l.current = ok && e.version == l.version()
	if !l.current {
		l.why = WhyVersion
		if l.seeded || !ok {
			l.why = WhySeeded
		}
		return
	}
	if l.inflate(fc) != nil {
		l.current, l.why = false, WhyFormat
	}
}

// inflate decompresses the payload of the stored fragment.
func (l *lookup) inflate(fc *fetchConfig) error {
	payload, err := fc.decompress(l.entry.compressor, l.entry.payload)
	if err == nil {
		l.entry.payload, l.entry.compressor = payload, compressNone
	}
	return err
}

func pick(s []string, at []int) []string {
	out := make([]string, len(at))
	for i, a := range at {
		out[i] = s[a]
	}
	return out
}

// readExtra reads tokens without creating them: a fragment that depends on an
// absent one is not current.
func (c *Cache) readExtra(ctx context.Context, tokens []string) ([]uint64, bool, error) {
	if len(tokens) == 0 {
		return nil, true, nil
	}
	raw, err := c.redis.mget(ctx, c.redis.reads, c.tokenKeys(tokens))
	if err != nil {
		return nil, false, redisError("read tokens", err)
	}
	vals, ok := parseAll(raw)
	return vals, ok, nil
}

func parseAll(raw values) ([]uint64, bool) {
	if len(raw) == 0 {
		return nil, true
	}
	vals := make([]uint64, len(raw))
	for i, r := range raw {
		var ok bool
		if vals[i], ok = parseToken(r); !ok {
			return nil, false
		}
	}
	return vals, true
}
