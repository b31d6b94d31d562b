package icachetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
)

// timeout bounds one round trip to Redis in a test. It is long, because a
// slow machine must not make a hit a miss.
const timeout = 10 * time.Second

// recorders has a recorder for every cache that New and NewOn have made, until
// its test ends.
var recorders sync.Map // *icache.Cache → *recorder

// New returns a cache on a Redis of its own, in this process and empty. Both
// end with the test.
func New(tb testing.TB, opts ...icache.Option) *icache.Cache {
	tb.Helper()
	return open(tb, Redis(tb), opts)
}

// NewOn returns a cache on a Redis of the caller's. Unless opts say otherwise
// its keys have a prefix of their own, and are deleted when the test ends; give
// icache.WithPrefix or icache.WithTokenKey to share tokens with an
// icache-agent.
func NewOn(tb testing.TB, rdb redis.UniversalClient, opts ...icache.Option) *icache.Cache {
	tb.Helper()
	prefix := "icachetest:" + rand.Text() + ":"
	tb.Cleanup(func() {
		if err := unlink(rdb, prefix+"*"); err != nil {
			tb.Errorf("icachetest: delete the keys of the test: %v", err)
		}
	})
	return open(tb, rdb, append([]icache.Option{icache.WithPrefix(prefix)}, opts...))
}

// Redis returns a client of a new, empty Redis in this process, for programs
// that make their own icache.Cache. Both end with the test.
func Redis(tb testing.TB) *redis.Client {
	tb.Helper()
	server := miniredis.RunT(tb)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func open(tb testing.TB, rdb redis.UniversalClient, opts []icache.Option) *icache.Cache {
	tb.Helper()
	r := new(recorder)
	opts = append([]icache.Option{icache.WithTimeout(timeout)}, opts...)
	cache, err := icache.New(rdb, append(opts, icache.WithHooks(r.hooks()))...)
	if err != nil {
		tb.Fatalf("icachetest: %v", err)
	}
	recorders.Store(cache, r)
	tb.Cleanup(func() {
		recorders.Delete(cache)
		if err := cache.Close(); err != nil {
			tb.Errorf("icachetest: close the cache: %v", err)
		}
	})
	return cache
}

func unlink(rdb redis.UniversalClient, pattern string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			return unlinkNode(ctx, c, pattern)
		})
	}
	return unlinkNode(ctx, rdb, pattern)
}

func unlinkNode(ctx context.Context, rdb redis.UniversalClient, pattern string) error {
	keys := rdb.Scan(ctx, 0, pattern, 1000).Iterator()
	for keys.Next(ctx) {
		// One by one: the keys of a Cluster's node are not of one slot.
		if err := rdb.Unlink(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

// Events returns what has been fetched from the cache since it was made, in
// the order in which the fetches ended. The cache must come from [New] or
// [NewOn].
func Events(tb testing.TB, cache *icache.Cache) []icache.Event {
	tb.Helper()
	return recorderOf(tb, cache).since(0)
}

// Incremented returns the tokens that have been incremented through the cache
// since it was made, in order, each as often as that happened. The cache must
// come from [New] or [NewOn].
func Incremented(tb testing.TB, cache *icache.Cache) []string {
	tb.Helper()
	return recorderOf(tb, cache).incremented()
}

// recorder keeps what the hooks of a cache report.
type recorder struct {
	mu     sync.Mutex
	events []icache.Event
	tokens []string
}

func (r *recorder) hooks() icache.Hooks {
	return icache.Hooks{
		Fetch: func(_ context.Context, e icache.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
		Incr: func(_ context.Context, e icache.IncrEvent) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tokens = append(r.tokens, e.Tokens...)
		},
	}
}

func (r *recorder) mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

func (r *recorder) since(mark int) []icache.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]icache.Event(nil), r.events[mark:]...)
}

func (r *recorder) incremented() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.tokens...)
}

func recorderOf(tb testing.TB, cache *icache.Cache) *recorder {
	tb.Helper()
	r, ok := recorders.Load(cache)
	if !ok {
		tb.Fatal("icachetest: the cache was not made by icachetest.New or icachetest.NewOn in a test that is still running")
		return nil
	}
	return r.(*recorder)
}

// describe lists events for the message of a failed test.
func describe(events []icache.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\n\t%q: %s", e.Key, e.Outcome)
		if e.Why != "" {
			fmt.Fprintf(&b, " (%s)", e.Why)
		}
		if e.Err != nil {
			fmt.Fprintf(&b, ": %v", e.Err)
		}
		fmt.Fprintf(&b, ", depends on %q", e.Tokens)
	}
	return b.String()
}
