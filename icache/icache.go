package icache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Cache reads and writes tokens and fragments in one Redis. One per process is
// enough. All methods are safe for concurrent use.
type Cache struct {
	cfg      config
	keys     keyPattern
	redis    server
	flights  flights
	plans    *plans
	trails   trails        // ReadAhead
	payloads *payloads     // WithPayloadCache
	l1       *l1           // WithTracking
	slots    chan struct{} // WithFallbackLimit
	breaker  breaker
	stats    counters
	leaseEnd atomic.Int64 // of the latest lease seen, for GuardServe
	seams    seams

	mu      sync.Mutex
	closed  bool
	onClose []func() error
	tasks   sync.WaitGroup // what runs in the background
}

// seams let tests break the protocol on purpose, to see that they notice. All
// are zero otherwise.
type seams struct {
	bump, seed   *script
	flightByName bool
	beforeStore  func(f *Fragment, e *entry)
}

// New returns a Cache on rdb, which the caller keeps and closes. The zero
// options work.
//
// rdb is a [redis.Client] (also one that follows a Sentinel) or a
// [redis.ClusterClient]. Tokens must be read where they are incremented, so New
// refuses clients that read from replicas (ReadOnly, RouteByLatency,
// RouteRandomly) or from a cache of their own (ClientSideCache), and a
// [redis.Ring], which spreads keys anew when a shard goes away.
func New(rdb redis.UniversalClient, opts ...Option) (*Cache, error) {
	cfg := defaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.tokenKey == "" {
		cfg.tokenKey = cfg.prefix + "t:{token}"
	}
	keys, ok := parseKeyPattern(cfg.tokenKey)
	if !ok {
		cfg.fail("token key %q: want {token} in it exactly once, as in %q", cfg.tokenKey, "icache:t:{token}")
	}
	if cfg.fallbackLimit < 0 {
		cfg.fail("fallback limit %d: want 0 or more", cfg.fallbackLimit)
	}
	if cfg.legacy && cfg.guard {
		cfg.fail("a guard needs an agent that knows the lease: leave out WithLegacyCounters or WithGuard")
	}
	if cfg.tracking > 0 && cfg.payloadBytes <= 0 {
		cfg.payloadBytes = defaultTrackedPayloads
	}
	srv, err := newServer(rdb, cfg.timeout)
	if err = errors.Join(err, cfg.err()); err != nil {
		return nil, err
	}
	c := &Cache{cfg: cfg, keys: keys, redis: srv, plans: newPlans(), payloads: newPayloads(cfg.payloadBytes)}
	if cfg.autoPipeline {
		stop, err := c.redis.autoPipeline()
		if err != nil {
			return nil, fmt.Errorf("icache: automatic pipelining: %w", err)
		}
		c.onClose = append(c.onClose, stop)
	}
	c.flights.m = make(map[flightKey]*flight)
	if cfg.fallbackLimit > 0 {
		c.slots = make(chan struct{}, cfg.fallbackLimit)
	}
	if cfg.tracking > 0 {
		c.l1 = newL1(cfg.tracking, cfg.guard, cfg.guardGrace)
		if err := c.track(rdb); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if srv.warning != nil {
		c.hookError(context.Background(), "new", srv.warning)
	}
	return c, nil
}

// Close waits for what runs in the background and ends it: the connection of
// [WithTracking], the automatic pipelining, computations for [Stale]. It does not
// close the Redis client. The Cache can still be used, so that requests may
// finish; with [WithAutoPipeline] it computes everything then, uncached. Calling Close again is harmless.
func (c *Cache) Close() error {
	c.mu.Lock()
	stop := c.onClose
	c.closed, c.onClose = true, nil
	c.mu.Unlock()
	var errs []error
	for _, f := range stop {
		errs = append(errs, f())
	}
	c.tasks.Wait()
	return errors.Join(errs...)
}

// background runs f beside, unless the cache is closed.
func (c *Cache) background(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Go(f)
	return true
}

func (c *Cache) fragmentKey(name string) string { return c.cfg.prefix + "f:" + name }
func (c *Cache) leaseKey(name string, v Version) string {
	return c.cfg.prefix + "l:" + name + ":" + v.String()
}
func (c *Cache) clockKey() string { return c.cfg.prefix + "clock" }

// expand returns the tokens that make up a version.
func (c *Cache) expand(tokens []string) []string {
	if c.cfg.legacy {
		return distinct(tokens)
	}
	return expand(tokens)
}

func (c *Cache) tokenKeys(tokens []string) []string {
	size := len(tokens) * (len(c.keys.before) + len(c.keys.after))
	for _, t := range tokens {
		size += len(t)
	}
	// One string for all of them: there may be thousands.
	all := make([]byte, 0, size)
	for _, t := range tokens {
		all = append(append(append(all, c.keys.before...), t...), c.keys.after...)
	}
	rest := text(all)
	keys := make([]string, len(tokens))
	for i, t := range tokens {
		n := len(c.keys.before) + len(t) + len(c.keys.after)
		keys[i], rest = rest[:n], rest[n:]
	}
	return keys
}
