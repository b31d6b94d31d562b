package icache

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// plan is what a Fetch has to read. It is kept for the next Fetch of the same
// fragment.
type plan struct {
	key      string // as given
	declared []string
	vary     []string

	name      string   // of the fragment, without prefix
	fragment  string   // its key in Redis
	tokens    []string // sorted, with groups and generation
	tokenKeys []string // in Redis

	plain *commands // without extra tokens
	// found has the extra tokens that the stored fragment was last seen with,
	// so that they are read in the same round trip. Forgetting them, with the
	// plan, costs a second one. Only this part of a plan changes.
	found atomic.Pointer[commands]
}

// commands are the MGETs for a fragment with some extra tokens.
type commands struct {
	extra  []string
	checks []any // of the tokens, the extra tokens, the guard's lease
	whole  []any // of the same and the fragment
}

// commands makes the MGETs that read the given tokens, the extra ones, and a
// fragment.
func (c *Cache) commands(tokenKeys, extra []string, fragment string) *commands {
	keys := make([]string, 0, len(tokenKeys)+len(extra)+2)
	keys = append(keys, tokenKeys...)
	for _, t := range extra {
		keys = append(keys, c.keys.key(t))
	}
	if c.cfg.guard {
		keys = append(keys, c.guardKey())
	}
	whole := mgetArgs(append(keys, fragment)) // the largest comes last
	return &commands{extra, whole[: len(whole)-1 : len(whole)-1], whole}
}

// commands returns those for the given extra tokens.
func (p *plan) commands(c *Cache, extra []string) *commands {
	if len(extra) == 0 {
		return p.plain
	}
	if f := p.found.Load(); slices.Equal(f.extra, extra) {
		return f
	}
	return c.commands(p.tokenKeys, extra, p.fragment)
}

// remember keeps the extra tokens of the stored fragment.
func (p *plan) remember(c *Cache, extra []string) {
	if !slices.Equal(p.found.Load().extra, extra) {
		p.found.Store(p.commands(c, slices.Clone(extra)))
	}
}

// plans remembers plans by a hash of what they are made from.
type plans struct {
	c    *otter.Cache[uint64, *plan]
	seed maphash.Seed
}

func newPlans() *plans {
	return &plans{otter.Must(&otter.Options[uint64, *plan]{MaximumSize: 10_000}), maphash.MakeSeed()}
}

func (ps *plans) hash(key string, tokens, vary []string) uint64 {
	var h maphash.Hash
	h.SetSeed(ps.seed)
	_, _ = h.WriteString(key)
	for _, t := range tokens {
		_ = h.WriteByte(0)
		_, _ = h.WriteString(t)
	}
	for _, v := range vary {
		_ = h.WriteByte(1)
		_, _ = h.WriteString(v)
	}
	return h.Sum64()
}

func (c *Cache) plan(key string, tokens []string, fc *fetchConfig) *plan {
	hash := c.plans.hash(key, tokens, fc.vary)
	if p, ok := c.plans.c.GetIfPresent(hash); ok &&
		p.key == key && slices.Equal(p.declared, tokens) && slices.Equal(p.vary, fc.vary) {
		return p
	}
	p := &plan{
		key: strings.Clone(key), declared: slices.Clone(tokens), vary: slices.Clone(fc.vary),
		name: c.name(key, tokens, fc), tokens: c.expand(slices.Clone(tokens)),
	}
	p.fragment = c.fragmentKey(p.name)
	p.tokenKeys = c.tokenKeys(p.tokens)
	p.plain = c.commands(p.tokenKeys, nil, p.fragment)
	p.found.Store(p.plain)
	c.plans.c.Set(hash, p)
	return p
}

// FragmentKey returns the key under which Fetch stores the fragment with the
// given key, tokens and options: the key, a colon, and a hash of the rest. It
// is for [Cache.Delete], [Cache.GetVersioned] and tools.
func (c *Cache) FragmentKey(key string, tokens []string, opts ...FetchOption) string {
	return c.name(key, tokens, c.options(opts))
}

// name hashes everything that tells fragments with the same key apart, each
// part with its length so that none can run into the next. The format is part
// of it, so that two versions of this package that differ in it do not keep
// overwriting each other's fragments.
func (c *Cache) name(key string, tokens []string, fc *fetchConfig) string {
	var space [256]byte
	b := append(space[:0], format)
	b = appendText(b, c.cfg.epoch)
	b = binary.AppendUvarint(b, uint64(len(fc.vary)))
	for _, v := range fc.vary {
		b = appendText(b, v)
	}
	for _, t := range distinct(tokens) {
		b = appendText(b, t)
	}
	hash := sha256.Sum256(b)
	const size = 16
	name := make([]byte, 0, len(key)+1+base64.RawURLEncoding.EncodedLen(size))
	name = append(append(name, key...), ':')
	return string(base64.RawURLEncoding.AppendEncode(name, hash[:size]))
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// options returns the defaults changed by opts.
func (c *Cache) options(opts []FetchOption) *fetchConfig {
	if len(opts) == 0 {
		return &c.cfg.defaults
	}
	fc := c.cfg.defaults
	for _, o := range opts {
		o(&fc)
	}
	return &fc
}
