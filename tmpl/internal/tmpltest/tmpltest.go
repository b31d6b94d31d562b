// Package tmpltest gives the tests below tmpl a cache and a record of what
// became of each fragment.
package tmpltest

import (
	"context"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl"
)

// Cache returns a cache of the test's own on the shared Redis.
func Cache(tb testing.TB) *icache.Cache {
	tb.Helper()
	return CacheAt(tb, servertest.Redis(tb))
}

// CacheAt returns a cache of the test's own on the Redis at url.
func CacheAt(tb testing.TB, url string) *icache.Cache {
	tb.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(tb, err)
	rdb := redis.NewClient(options)
	tb.Cleanup(func() { require.NoError(tb, rdb.Close()) })
	cache, err := icache.New(rdb, icache.WithPrefix(servertest.Prefix(tb)))
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, cache.Close()) })
	return cache
}

// Recorder keeps events.
type Recorder struct {
	mu     sync.Mutex
	events []tmpl.Event
}

// Record returns ctx with a recorder.
func Record(ctx context.Context) (context.Context, *Recorder) {
	r := new(Recorder)
	return tmpl.WithObserver(ctx, func(_ context.Context, e tmpl.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}), r
}

// Events returns the events since the last call.
func (r *Recorder) Events() []tmpl.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// Outcomes returns "name: outcome" for each event since the last call.
func (r *Recorder) Outcomes() []string {
	var list []string
	for _, e := range r.Events() {
		list = append(list, e.Name+": "+e.Outcome.String())
	}
	return list
}
