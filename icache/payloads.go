package icache

import (
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// WithPayloadCache keeps up to the given number of bytes of payloads in this
// process. Every hit is still checked against the tokens in Redis, so nothing
// changes but the bytes that travel; it pays from 16 KiB a fragment. Default
// is 0, none.
func WithPayloadCache(bytes int64) Option { return func(c *config) { c.payloadBytes = bytes } }

// payloads is the local cache of WithPayloadCache; nil if there is none. Its
// entries are decompressed and never changed.
type payloads struct {
	c *otter.Cache[string, *localEntry]
}

type localEntry struct {
	*entry
	l1 atomic.Pointer[l1Entry] // WithTracking: the tokens it is current under
}

func newPayloads(bytes int64) *payloads {
	if bytes <= 0 {
		return nil
	}
	return &payloads{otter.Must(&otter.Options[string, *localEntry]{
		MaximumWeight: uint64(bytes),
		Weigher: func(name string, e *localEntry) uint32 {
			const overhead = 256
			size := overhead + len(name) + len(e.payload)
			for _, t := range e.extra {
				size += len(t) + 16
			}
			return uint32(min(size, 1<<31))
		},
	})}
}

func (p *payloads) get(name string) *localEntry {
	if p == nil {
		return nil
	}
	e, _ := p.c.GetIfPresent(name)
	if e != nil && e.expired(time.Now()) {
		p.c.Invalidate(name)
		return nil
	}
	return e
}

func (p *payloads) set(name string, e *entry) *localEntry {
	if p == nil {
		return nil
	}
	local := &localEntry{entry: e}
	p.c.Set(name, local)
	return local
}
