package icache

import (
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
type payloads struct{ c *otter.Cache[string, *entry] }

func newPayloads(bytes int64) *payloads {
	if bytes <= 0 {
		return nil
	}
	return &payloads{otter.Must(&otter.Options[string, *entry]{
		MaximumWeight: uint64(bytes),
		Weigher: func(name string, e *entry) uint32 {
			const overhead = 256
			size := overhead + len(name) + len(e.payload)
			for _, t := range e.extra {
				size += len(t) + 16
			}
			return uint32(min(size, 1<<31))
		},
	})}
}

func (p *payloads) get(name string) *entry {
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

func (p *payloads) set(name string, e *entry) {
	if p != nil {
		p.c.Set(name, e)
	}
}
