package listener

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clock drives a doorbell through polls that see the given rate.
type clock struct {
	now time.Time
	d   *doorbell
}

func newClock(wake Wake) *clock {
	now := time.Unix(1000, 0)
	return &clock{now, newDoorbell(defaultBellTuning(), wake, now)}
}

// run polls every step for a while, or until it sleeps and the bell does not
// ring; got is what an attempt at the lock yields.
func (c *clock) run(d, step time.Duration, transactions int, got bool) (ops map[lockOp]int) {
	ops = map[lockOp]int{}
	for end := c.now.Add(d); c.now.Before(end) && (transactions > 0 || !c.d.held); {
		c.now = c.now.Add(step)
		op := c.d.next(c.now)
		ops[op]++
		c.d.polled(c.now, transactions, op, op == lockTry && got)
	}
	return ops
}

func TestDoorbellSleepsWhenIdle(t *testing.T) {
	t.Parallel()
	c := newClock(WakeDoorbell)
	c.run(100*time.Millisecond, time.Millisecond, 0, true)
	require.True(t, c.d.held)
}

func TestDoorbellStaysAsleepAtAModestRate(t *testing.T) {
	t.Parallel()
	c := newClock(WakeDoorbell)
	c.run(100*time.Millisecond, time.Millisecond, 0, true)
	ops := c.run(5*time.Second, time.Millisecond, 1, true) // 1000/s
	require.Zero(t, ops[lockRelease])
	require.True(t, c.d.held)
}

func TestDoorbellWakesAtAHighRateAndSleepsAgain(t *testing.T) {
	t.Parallel()
	c := newClock(WakeDoorbell)
	c.run(100*time.Millisecond, time.Millisecond, 0, true)
	ops := c.run(time.Second, time.Millisecond, 2, true) // 2000/s
	require.Equal(t, 1, ops[lockRelease])
	require.Zero(t, ops[lockTry])
	require.False(t, c.d.held)
	require.InDelta(t, time.Millisecond, c.d.interval, 2e4)
	c.run(time.Second, 4*time.Millisecond, 40, true) // 10,000/s
	require.Equal(t, c.d.pollBusy, c.d.interval, "the more there are, the fewer polls")
	ops = c.run(time.Second, time.Millisecond, 0, true)
	require.Equal(t, 1, ops[lockTry])
	require.True(t, c.d.held)
}

func TestDoorbellPollsRarelyWhileAWriterStaysOpen(t *testing.T) {
	t.Parallel()
	c := newClock(WakeDoorbell)
	c.run(time.Second, time.Millisecond, 1, false)
	c.run(time.Second, time.Millisecond, 0, false)
	require.False(t, c.d.held)
	require.Equal(t, c.d.pollMax, c.d.interval)
	c.run(c.d.long, time.Millisecond, 0, false)
	require.Equal(t, c.d.pollIdle, c.d.interval)
	c.run(time.Millisecond, time.Millisecond, 1, false)
	require.Equal(t, c.d.pollMin, c.d.interval, "a change makes it quick again")
}

func TestDoorbellWakesWhenWritersQueue(t *testing.T) {
	t.Parallel()
	c := newClock(WakeDoorbell)
	c.run(100*time.Millisecond, time.Millisecond, 0, true)
	hold := c.d.hold
	for range 3 {
		c.run(time.Second, 15*time.Millisecond, 1, true) // 66/s
		require.True(t, c.d.held)
		require.True(t, c.d.wantsProbe(c.now))
		c.d.probeResult(c.now, 3)
		require.False(t, c.d.wantsProbe(c.now))
		require.Equal(t, lockKeep, c.d.next(c.now), "once may be chance")
		c.d.probeResult(c.now, 3)
		require.Equal(t, lockRelease, c.d.next(c.now))
		c.run(hold-30*time.Millisecond, 15*time.Millisecond, 1, true)
		require.False(t, c.d.held, "it does not go back and forth")
		c.run(100*time.Millisecond, 15*time.Millisecond, 1, true)
		require.True(t, c.d.held)
		hold *= 2
	}
}

func TestDoorbellIsNeverTakenInPollMode(t *testing.T) {
	t.Parallel()
	c := newClock(WakePoll)
	ops := c.run(5*time.Second, time.Millisecond, 0, true)
	require.Equal(t, map[lockOp]int{lockKeep: 5000}, ops)
	require.Equal(t, c.d.pollIdle, c.d.interval)
}

func TestDoorbellIsNotUsedWhileTheQueueIsFull(t *testing.T) {
	t.Parallel()
	c := newClock(WakeDoorbell)
	c.run(100*time.Millisecond, time.Millisecond, 0, true)
	require.True(t, c.d.held)
	c.d.queueFull = true
	c.run(100*time.Millisecond, time.Millisecond, 1, true)
	c.run(time.Second, time.Millisecond, 0, true)
	require.False(t, c.d.held)
	c.d.queueFull = false
	c.run(100*time.Millisecond, time.Millisecond, 0, true)
	require.True(t, c.d.held)
}
