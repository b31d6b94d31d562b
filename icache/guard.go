package icache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// WithGuard makes the cache trust fragments only while the agent's lease is in
// Redis. The agent renews it as long as a change travels the whole way from
// the database to Redis; when it is stopped, stuck or cut off, the lease lapses
// and every Fetch computes, or does so after the time that [GuardServe] grants.
// So no fragment is served later than the lease's time to live, redis.lease in
// the agent's config, after the commit that outdated it; under [ReadAhead] it
// may be a second later. The lease is read in the same round trip as the tokens.
//
// It takes an agent that grants a lease; without one nothing is ever served
// from the cache. docs/reliability.md derives the bound.
func WithGuard(opts ...GuardOption) Option {
	return func(c *config) {
		c.guard = true
		for _, o := range opts {
			o(c)
		}
	}
}

// GuardOption configures [WithGuard].
type GuardOption func(*config)

// GuardServe lets fragments be served for up to grace after the end of the
// latest lease that this Cache has seen: a restart of the agent that takes
// longer than the lease does not cost the cache, and the bound is the lease's
// time to live and grace together. A Cache that has seen no lease, as in a
// process that starts meanwhile, computes. Once the lease has lapsed a Fetch
// takes one more round trip, for the clock of Redis. Default is 0.
func GuardServe(grace time.Duration) GuardOption {
	return func(c *config) {
		c.guardGrace = grace
		if grace < 0 {
			c.fail("guard: grace of %v, want 0 or more", grace)
		}
	}
}

// lapsed reports whether the cache is not to be trusted, given what was read
// under the guard's key.
func (c *Cache) lapsed(ctx context.Context, lease []byte) bool {
	grace := c.cfg.guardGrace
	if lease != nil {
		if ms, ok := parseToken(lease); ok && grace > 0 {
			c.sawLease(int64(ms))
		}
		return false
	}
	end := c.leaseEnd.Load()
	if grace <= 0 || end == 0 {
		return true
	}
	// The clock of Redis, not of this process: it may have been suspended.
	now, err := c.leaseClock(ctx, c.redis.read)
	return err != nil || now.After(time.UnixMilli(end).Add(grace))
}

// sawLease keeps the latest end of a lease, in milliseconds since 1970. That
// an agent ends a lease early takes nothing back: what it vouched for is so.
func (c *Cache) sawLease(end int64) {
	for {
		old := c.leaseEnd.Load()
		if end <= old || c.leaseEnd.CompareAndSwap(old, end) {
			return
		}
	}
}

func (c *Cache) guardKey() string { return c.cfg.prefix + "lease" }

// LeaseKey returns the key of the guard's lease; see [WithGuard].
func (c *Cache) LeaseKey() string { return c.guardKey() }

// LeaseClock returns the time on the clock that decides when the lease lapses:
// that of the server which holds it. It is for agents; see [Cache.RenewLease].
func (c *Cache) LeaseClock(ctx context.Context) (time.Time, error) {
	return c.leaseClock(ctx, c.redis.rdb)
}

func (c *Cache) leaseClock(ctx context.Context, client redis.UniversalClient) (time.Time, error) {
	var rdb redis.Cmdable = client
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		node, err := cluster.MasterForKey(ctx, c.guardKey())
		if err != nil {
			return time.Time{}, redisError("find the server of the lease", err)
		}
		rdb = node
	}
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		return time.Time{}, redisError("read the clock", err)
	}
	return now, nil
}

// RenewLease lets guarded caches trust fragments until a time on the clock of
// [Cache.LeaseClock]. The end is absolute, so that a command which is late,
// from a process that was stopped or over a connection that hung, cannot
// lengthen the lease; it may end it early.
//
// It is for agents: whoever calls it vouches that everything that was committed
// more than a lease's time before the end has been incremented.
func (c *Cache) RenewLease(ctx context.Context, until time.Time) error {
	ms := until.UnixMilli()
	if err := c.redis.rdb.Do(ctx, "set", c.guardKey(), ms, "pxat", ms).Err(); err != nil {
		return redisError("renew the lease", err)
	}
	return nil
}
