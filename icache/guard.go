package icache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// WithGuard makes the cache trust fragments only while the agent's lease is in
// Redis. The agent renews it as long as a change travels the whole way from
// the database to Redis; when it is stopped, stuck or cut off, the lease lapses
// and every Fetch computes. So no fragment is served later than the lease's
// time to live after the commit that outdated it. The lease is read in the
// same round trip as the tokens.
//
// It takes an agent that grants a lease (redis.lease in its config); without
// one nothing is ever served from the cache.
func WithGuard() Option { return func(c *config) { c.guard = true } }

func (c *Cache) guardKey() string { return c.cfg.prefix + "lease" }

// LeaseKey returns the key of the guard's lease; see [WithGuard].
func (c *Cache) LeaseKey() string { return c.guardKey() }

// LeaseClock returns the time on the clock that decides when the lease lapses:
// that of the server which holds it. It is for agents; see [Cache.RenewLease].
func (c *Cache) LeaseClock(ctx context.Context) (time.Time, error) {
	var rdb redis.Cmdable = c.redis.rdb
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
