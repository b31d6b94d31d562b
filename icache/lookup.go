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
	extra     []string // the stored fragment's extra tokens, if it is current
	extraVals []uint64 // their values
	entry     *entry   // the stored fragment; its payload is decompressed if it is current
	current   bool     // entry has the version of the tokens
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
// not know of. Values are read one after the other; that is sound because each
// only grows, see the package documentation.
func (c *Cache) lookup(ctx context.Context, p *plan, fc *fetchConfig) (lookup, error) {
	var l lookup
	if !c.breaker.allow() {
		return l, errBreaker
	}
	l, err := c.read(ctx, p, fc)
	if ctx.Err() == nil {
		c.breaker.report(err)
	}
	return l, err
}

func (c *Cache) read(ctx context.Context, p *plan, fc *fetchConfig) (lookup, error) {
	ctx, cancel := c.redis.context(ctx)
	defer cancel()
	extra := c.memo.get(p.name)
	keys := make([]string, 0, len(p.tokenKeys)+len(extra)+2)
	keys = append(keys, p.tokenKeys...)
	for _, t := range extra {
		keys = append(keys, c.keys.key(t))
	}
	if c.cfg.guard {
		keys = append(keys, c.guardKey())
	}
	keys = append(keys, c.fragmentKey(p.name))
	raw, err := c.redis.mget(ctx, c.redis.read, keys)
	if err != nil {
		return lookup{}, redisError("read fragment", err)
	}
	n := len(p.tokens)
	l := lookup{vals: make([]uint64, n)}
	seeded, err := c.parseOrSeed(ctx, c.redis.read, p.tokens, keys[:n], raw[:n], l.vals)
	if err != nil {
		return l, err
	}
	l.static = sum(l.vals)
	last := len(raw) - 1
	l.lapsed = c.cfg.guard && raw[last-1] == nil
	stored, ok := raw[last].(string)
	if !ok {
		l.why = WhyAbsent
		return l, nil
	}
	e, err := parseEntry([]byte(stored))
	if err != nil {
		l.why = WhyFormat
		return l, nil
	}
	l.entry = &e
	known, ok := parseAll(raw[n : n+len(extra)])
	if !slices.Equal(extra, e.extra) {
		c.memo.set(p.name, e.extra)
		if known, ok, err = c.readExtra(ctx, e.extra); err != nil {
			return l, err
		}
	}
	if ok {
		l.extra, l.extraVals = e.extra, known
	}
	l.current = ok && e.version == l.version()
	switch {
	case l.current:
		if e.payload, err = fc.decompress(e.compressor, e.payload); err != nil {
			l.current, l.why = false, WhyFormat
		}
	case seeded || !ok:
		l.why = WhySeeded
	default:
		l.why = WhyVersion
	}
	return l, nil
}

// readExtra reads tokens without creating them: a fragment that depends on an
// absent one is not current.
func (c *Cache) readExtra(ctx context.Context, tokens []string) ([]uint64, bool, error) {
	if len(tokens) == 0 {
		return nil, true, nil
	}
	raw, err := c.redis.mget(ctx, c.redis.read, c.tokenKeys(tokens))
	if err != nil {
		return nil, false, redisError("read tokens", err)
	}
	vals, ok := parseAll(raw)
	return vals, ok, nil
}

func parseAll(raw []any) ([]uint64, bool) {
	vals := make([]uint64, len(raw))
	for i, r := range raw {
		s, ok := r.(string)
		if !ok {
			return nil, false
		}
		if vals[i], ok = parseToken(s); !ok {
			return nil, false
		}
	}
	return vals, true
}
