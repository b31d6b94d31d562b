package icache

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
