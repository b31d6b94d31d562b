package icache

import (
	"errors"
	"sync/atomic"
	"time"
)

// errBreaker stands for the errors that opened the breaker.
var errBreaker = errors.New("icache: redis failed just now, not asked again yet")

const (
	breakerFailures = 3           // in a row, to open it
	breakerPause    = time.Second // between attempts while it is open
)

// breaker keeps every Fetch from waiting for a Redis that does not answer:
// after a few failures in a row only one attempt a second goes through.
type breaker struct {
	failures atomic.Int32
	next     atomic.Int64 // unix nanoseconds
}

func (b *breaker) allow() bool {
	if b.failures.Load() < breakerFailures {
		return true
	}
	next, now := b.next.Load(), time.Now().UnixNano()
	return now >= next && b.next.CompareAndSwap(next, now+int64(breakerPause))
}

func (b *breaker) report(err error) {
	if err == nil {
		if b.failures.Load() != 0 {
			b.failures.Store(0)
		}
		return
	}
	if b.failures.Add(1) == breakerFailures {
		b.next.Store(time.Now().Add(breakerPause).UnixNano())
	}
}
