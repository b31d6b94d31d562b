package icache

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/maypok86/otter/v2"
)

// plan is what a Fetch has to read.
type plan struct {
	name      string   // of the fragment, without prefix
	tokens    []string // sorted, with groups and generation
	tokenKeys []string // in Redis
}

func (c *Cache) plan(key string, tokens []string, fc *fetchConfig) plan {
	all := c.expand(tokens)
	return plan{name: c.name(key, tokens, fc), tokens: all, tokenKeys: c.tokenKeys(all)}
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

// memo remembers the extra tokens of fragments by name, so that they are read
// in the same round trip as the others. Forgetting costs a second round trip.
type memo struct {
	c *otter.Cache[string, []string]
}

func newMemo() *memo {
	return &memo{otter.Must(&otter.Options[string, []string]{MaximumSize: 10_000})}
}

func (m *memo) get(name string) []string {
	extra, _ := m.c.GetIfPresent(name)
	return extra
}

func (m *memo) set(name string, extra []string) {
	if len(extra) == 0 {
		m.c.Invalidate(name)
		return
	}
	m.c.Set(name, extra)
}
