package icache

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// The end of a lease is absolute: a renewal that comes late lengthens nothing.
func TestRenewLease(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t, WithGuard())
	ctx := t.Context()
	now, err := c.LeaseClock(ctx)
	require.NoError(t, err)
	require.NoError(t, c.RenewLease(ctx, now.Add(300*time.Millisecond)))
	left, err := rdb.PTTL(ctx, c.LeaseKey()).Result()
	require.NoError(t, err)
	require.Positive(t, left)
	require.LessOrEqual(t, left, 300*time.Millisecond)
	require.Eventually(t, func() bool { return rdb.Exists(ctx, c.LeaseKey()).Val() == 0 }, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, c.RenewLease(ctx, now.Add(200*time.Millisecond)), "late")
	require.Zero(t, rdb.Exists(ctx, c.LeaseKey()).Val())
	require.NoError(t, c.RenewLease(ctx, now.Add(time.Hour)))
	require.NoError(t, c.RenewLease(ctx, now), "an older one ends it early")
	require.Zero(t, rdb.Exists(ctx, c.LeaseKey()).Val())
}

// After the lease's end, fragments are served for the grace and no longer, by
// a cache that has seen the lease.
func TestGuardServe(t *testing.T) {
	t.Parallel()
	const grace = 1500 * time.Millisecond
	_, rdb := newCache(t)
	prefix := WithPrefix(servertest.Prefix(t) + ":")
	var told atomic.Bool // by the hooks, that the lease has lapsed
	lenient := cacheOn(t, rdb, prefix, WithGuard(GuardServe(grace)), WithHooks(Hooks{Fetch: func(_ context.Context, e Event) {
		told.Store(e.Why == WhyGuard)
	}}))
	strict := cacheOn(t, rdb, prefix, WithGuard())
	stranger := cacheOn(t, rdb, prefix, WithGuard(GuardServe(time.Hour)))
	ctx := t.Context()
	computed := func(c *Cache) bool {
		one := false
		_, err := Fetch(ctx, c, "k", []string{"a"}, func(context.Context) (string, error) { one = true; return "v", nil })
		require.NoError(t, err)
		many := false
		_, err = FetchMany(ctx, c, []Request{{"many", []string{"a"}}}, func(context.Context, []int) ([]string, error) { many = true; return []string{"v"}, nil })
		require.NoError(t, err)
		return one || many
	}
	require.True(t, computed(lenient), "no lease was ever seen")

	now, err := lenient.LeaseClock(ctx)
	require.NoError(t, err)
	end := now.Add(500 * time.Millisecond)
	require.NoError(t, lenient.RenewLease(ctx, end))
	computed(lenient)
	require.False(t, computed(lenient))
	require.Eventually(t, func() bool { return rdb.Exists(ctx, lenient.LeaseKey()).Val() == 0 }, 10*time.Second, 5*time.Millisecond)
	require.True(t, computed(strict))
	require.True(t, computed(stranger), "it has not seen the lease")
	var last time.Time // a hit was served
	for !computed(lenient) {
		last, err = lenient.LeaseClock(ctx)
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
	}
	over, err := lenient.LeaseClock(ctx)
	require.NoError(t, err)
	require.True(t, over.After(end.Add(grace)), "computed before the grace was over")
	require.True(t, last.IsZero() || last.Before(end.Add(grace+time.Second)))
	require.True(t, told.Load())

	require.NoError(t, rdb.Set(ctx, lenient.LeaseKey(), "9999999999999", 0).Err())
	require.False(t, computed(lenient))
	require.NoError(t, rdb.Del(ctx, lenient.LeaseKey()).Err())
	require.False(t, computed(lenient), "the latest end counts")

	_, err = New(rdb, WithGuard(GuardServe(-time.Second)))
	require.ErrorContains(t, err, "grace")
}

func TestGuardServeLocally(t *testing.T) {
	t.Parallel()
	at := int64(time.Hour)
	strict, lenient := newL1(time.Hour, true, 0), newL1(time.Hour, true, time.Minute)
	for _, l := range []*l1{strict, lenient} {
		l.guarded(at, time.Second)
		l.guarded(at+1, 0)
	}
	require.Zero(t, strict.lease.Load())
	require.Equal(t, at+int64(time.Second+time.Minute), lenient.lease.Load())
}
