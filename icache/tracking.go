package icache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/go-redis/v9/push"
)

// WithTracking keeps the values of tokens in this process, and Redis tells it
// of changes (CLIENT TRACKING, on a connection of its own), so that a hit needs
// no round trip at all. The guarantee is relaxed: a hit may be up to maxStale
// behind. That is a hard bound. Several times in maxStale the cache writes a
// key of its own and waits for Redis to tell it so; if that has not come back,
// because a connection is dead or a server has been replaced, tokens are read
// from Redis as usual. (It is a bound by the clock that this machine keeps while
// it runs: add the time for which it was suspended.) maxStale must be 10 ms or more; a second is plenty.
//
// Payloads are kept in the memory of [WithPayloadCache], 32 MiB if that is not
// given. A hit on a value of a string type costs no allocation; values that
// need a codec are decoded each time. Not for Redis Cluster. Call
// [Cache.Close] to end it.
func WithTracking(maxStale time.Duration) Option {
	return func(c *config) {
		c.tracking = maxStale
		if maxStale < 10*time.Millisecond {
			c.fail("tracking: %v is too short for maxStale, want 10ms or more", maxStale)
		}
	}
}

const (
	defaultTrackedPayloads = 32 << 20
	probeTTL               = time.Minute
	shortestPause          = 10 * time.Millisecond
	longestPause           = time.Second
)

// tracker feeds an l1 from Redis.
type tracker struct {
	c      *Cache
	l1     *l1
	rdb    *redis.Client // for the tracking connection alone
	probes string        // prefix of the keys it proves itself with
	under  atomic.Pointer[probe]
	again  chan struct{} // there is a new connection to prove
}

// probe is one that is under way.
type probe struct {
	key string
	at  int64 // when it was sent, on the l1's clock
}

// track starts tracking.
func (c *Cache) track(rdb redis.UniversalClient) error {
	client, ok := rdb.(*redis.Client)
	if !ok {
		return errors.New("icache: tracking needs a single server or Sentinel, not a Cluster")
	}
	opt := *client.Options()
	if opt.Protocol == 2 {
		return errors.New("icache: tracking needs RESP3 (redis.Options.Protocol 3)")
	}
	t := &tracker{
		c: c, l1: c.l1,
		probes: c.cfg.prefix + "probe:" + rand.Text() + ":",
		again:  make(chan struct{}, 1),
	}
	onConnect := opt.OnConnect
	opt.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
		if onConnect != nil {
			if err := onConnect(ctx, cn); err != nil {
				return err
			}
		}
		return t.connected(ctx, cn)
	}
	// Handlers for push notifications are the client's own.
	opt.PushNotificationProcessor = nil
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opt.Protocol, opt.PoolSize, opt.MinIdleConns, opt.MaxRetries = 3, 1, 0, -1
	t.rdb = redis.NewClient(&opt)
	if err := t.rdb.RegisterPushNotificationHandler("invalidate", t, true); err != nil {
		_ = t.rdb.Close()
		return fmt.Errorf("icache: tracking: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.onClose = append(c.onClose, func() error {
		cancel()
		return t.rdb.Close()
	})
	c.tasks.Go(func() { t.receive(ctx) })
	c.tasks.Go(func() { t.prove(ctx) })
	return nil
}

// connected prepares a new connection. Tracking comes first: an increment
// between clearing and tracking would go unnoticed. What Redis tells from then
// on is not read before connected returns: the answer to a probe would be taken
// for a proof of what is yet to be cleared.
func (t *tracker) connected(ctx context.Context, cn *redis.Conn) error {
	args := []any{"client", "tracking", "on", "bcast", "prefix", t.c.keys.before}
	if !strings.HasPrefix(t.probes, t.c.keys.before) {
		args = append(args, "prefix", t.probes)
	}
	cmd := redis.NewStatusCmd(ctx, args...)
	if err := cn.Process(ctx, cmd); err != nil {
		return fmt.Errorf("icache: tracking: %w", err)
	}
	t.under.Store(nil) // it was for the connection before
	t.l1.clear()
	select {
	case t.again <- struct{}{}:
	default:
	}
	return nil
}

// receive reads the tracking connection, and a new one whenever it breaks,
// until ctx ends.
func (t *tracker) receive(ctx context.Context) {
	pause := shortestPause
	for ctx.Err() == nil {
		start := time.Now()
		err := t.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		t.c.hookError(ctx, "tracking", redisError("tracking", err))
		if time.Since(start) > longestPause {
			pause = shortestPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// listen reads one connection until it breaks. Invalidations arrive in
// HandlePushNotification.
func (t *tracker) listen(ctx context.Context) error {
	sub := t.rdb.Subscribe(ctx)
	defer sub.Close()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	for {
		// Probes make something arrive all the time, and only what is not an
		// invalidation makes this return. After a time without proof the
		// connection is dead, whatever it says.
		_, err := sub.ReceiveTimeout(ctx, max(t.l1.maxStale, 250*time.Millisecond))
		if err == nil {
			continue
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() && t.l1.now()-t.l1.proof.Load() <= int64(t.l1.maxStale) {
			continue
		}
		return err
	}
}

// prove writes a key and waits to be told of it, over and over.
func (t *tracker) prove(ctx context.Context) {
	every := time.NewTicker(t.l1.maxStale / 3)
	defer every.Stop()
	var n uint64
	for {
		n++
		t.probe(ctx, n)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-t.again:
		}
	}
}

// probe sends one. Redis tells of changes in the order they were made, and of
// each before it acknowledges it: once it has told of the probe, it has told of
// everything that was acknowledged before the probe was sent. The probe goes
// through the client that increments go through, so that a tracking connection
// to a server that is no longer the master proves nothing.
func (t *tracker) probe(ctx context.Context, n uint64) {
	ctx, cancel := t.c.redis.context(ctx)
	defer cancel()
	if t.l1.guard {
		at := t.l1.now()
		left, err := t.c.redis.read.PTTL(ctx, t.c.guardKey()).Result()
		if err != nil {
			left = 0
		}
		t.l1.guarded(at, left)
	}
	if u := t.under.Load(); u != nil && t.l1.now()-u.at < int64(t.l1.maxStale) {
		return
	}
	u := &probe{key: fmt.Sprint(t.probes, n), at: t.l1.now()}
	t.under.Store(u)
	if err := t.c.redis.read.Set(ctx, u.key, 1, probeTTL).Err(); err != nil && ctx.Err() == nil {
		t.c.hookError(ctx, "tracking", redisError("probe", err))
	}
}

// HandlePushNotification is called for every invalidation.
func (t *tracker) HandlePushNotification(_ context.Context, _ push.NotificationHandlerContext, n []any) error {
	if len(n) < 2 || n[1] == nil {
		t.l1.clear() // FLUSHALL, FLUSHDB
		return nil
	}
	keys, ok := n[1].([]any)
	if !ok {
		t.l1.clear()
		return unexpected("invalidation", n[1])
	}
	for _, k := range keys {
		key, ok := k.(string)
		if !ok {
			t.l1.clear()
			return unexpected("invalidated key", k)
		}
		if strings.HasPrefix(key, t.probes) {
			t.answered(key)
			continue
		}
		if token, ok := t.c.keys.token(key); ok {
			t.l1.invalidate(token)
		}
	}
	return nil
}

// answered is called when Redis has told of a probe.
func (t *tracker) answered(key string) {
	u := t.under.Load()
	if u != nil && u.key == key && t.under.CompareAndSwap(u, nil) {
		t.l1.prove(u.at)
	}
}
