package cdn

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"
)

// A Cache is a CDN, or a part of one, that can be told to forget. Its methods
// are called from one goroutine at a time.
type Cache interface {
	// Purge returns nil once the cache has acknowledged that it no longer
	// serves what carries one of the keys. There are no more than the limits allow.
	Purge(ctx context.Context, keys []string) error
	// PurgeAll is Purge for everything, of others too. It is a last resort. A
	// cache that has none returns [errors.ErrUnsupported].
	PurgeAll(ctx context.Context) error
	// Key returns the key under which responses carry a token.
	Key(token string) string
	// Limits of a call of Purge.
	Limits() Limits
	// String says which cache it is, without secrets. Another name is another cache.
	String() string
	// Close ends connections that are idle.
	Close()
}

// Limits bound the keys of a request.
type Limits struct {
	Keys  int
	Bytes int // of all keys, each with a separator
}

// Sink is a cache with how it is to be treated.
type Sink struct {
	Name  string // unique; it is in logs, metrics and the table of what is outstanding
	Cache Cache

	// Rate is how many requests a second the cache bears, and Burst how many at
	// once. Zero means no limit.
	Rate  rate.Limit
	Burst int

	// RepeatAfter is when everything is purged a second time, for pages that
	// were rendered before a bump and reach the cache after the first purge.
	// Zero means never.
	RepeatAfter time.Duration
}

// Error is an answer that is no acknowledgement.
type Error struct {
	Status     int           // of HTTP
	Text       string        // what the answer says, shortened, without secrets
	RetryAfter time.Duration // how long the cache wants to be left alone; 0: it does not say
}

// rejected reports whether a request would fail again, because of what it asks for.
func rejected(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == 400 || e.Status == 413 || e.Status == 414 || e.Status == 422 || e.Status == 431)
}
