package listener

import (
	"math"
	"time"
)

// lockOp is what to do with the doorbell lock before a poll.
type lockOp byte

const (
	lockKeep lockOp = iota
	lockTry
	lockRelease
)

type bellTuning struct {
	awakeRate  float64       // transactions per second beyond which the bell is taken off
	asleepRate float64       // and below which it is put back
	window     time.Duration // over which the rate is taken
	idle       time.Duration // without changes: calm, whatever the rate was
	pollMin    time.Duration // between polls while changes come
	pollBusy   time.Duration // the same when very many come
	busyRate   float64       // transactions per second from which on it is pollBusy
	pollMax    time.Duration // between polls while none come
	pollIdle   time.Duration // between polls when none have come for long
	long       time.Duration
	hold       time.Duration // awake for so long after contention; doubles up to holdMax
	holdMax    time.Duration
	probe      time.Duration // how often to look for contention
	probeRate  float64       // below this rate there is no need to
}

func defaultBellTuning() bellTuning {
	return bellTuning{
		awakeRate:  1500,
		asleepRate: 1200,
		window:     250 * time.Millisecond,
		idle:       20 * time.Millisecond,
		pollMin:    750 * time.Microsecond,
		pollBusy:   4 * time.Millisecond,
		busyRate:   8000,
		pollMax:    25 * time.Millisecond,
		pollIdle:   100 * time.Millisecond,
		long:       2 * time.Second,
		hold:       time.Second,
		holdMax:    time.Minute,
		probe:      100 * time.Millisecond,
		probeRate:  20,
	}
}

// doorbell decides when to sleep and when to poll. It does no I/O.
//
// Asleep, the listener holds the doorbell lock exclusively. A writer cannot get
// it shared and therefore notifies: commit, NOTIFY, poll. That is the fastest
// way to learn of a change, but a notifying commit holds a database-wide lock
// while it flushes, so group commit ends. Beyond a rate at which polling is
// cheaper, or as soon as writers are seen to queue for that lock, the listener
// wakes: it releases the doorbell lock, and polls.
//
// To go back to sleep it tries the lock and polls once more, in this order, in
// one round trip. If it gets the lock, then every writer that did not ring has
// let go of it, and is visible to that poll. If not, such a writer is still
// open, and the listener stays awake; the time between polls grows, so that a
// transaction open for an hour costs little.
type doorbell struct {
	bellTuning
	never     bool // WakePoll
	queueFull bool // writers should not notify

	held     bool
	rate     float64 // transactions per second, exponentially weighted
	rated    time.Time
	busy     time.Time // when changes were last seen
	interval time.Duration

	contended int // probes in a row that saw writers queue
	probed    time.Time
	holdFor   time.Duration
	holdUntil time.Time
}

func newDoorbell(t bellTuning, wake Wake, now time.Time) *doorbell {
	return &doorbell{bellTuning: t, never: wake == WakePoll, rated: now, interval: t.pollMin, holdFor: t.hold}
}

// rateAt returns the rate, as it has decayed since it was last taken.
func (d *doorbell) rateAt(now time.Time) float64 {
	return d.rate * math.Exp(-max(0, now.Sub(d.rated)).Seconds()/d.window.Seconds())
}

// next returns what to do with the lock before the next poll.
func (d *doorbell) next(now time.Time) lockOp {
	switch {
	case d.held && d.queueFull:
		return lockRelease
	case d.held && (d.rateAt(now) > d.awakeRate || d.contended > 1):
		return lockRelease
	case d.held || d.never || d.queueFull:
		return lockKeep
	case now.Sub(d.busy) >= d.idle:
		return lockTry
	case d.rateAt(now) < d.asleepRate && !now.Before(d.holdUntil):
		return lockTry
	default:
		return lockKeep
	}
}

// wantsProbe reports whether it is time to look for writers that queue.
func (d *doorbell) wantsProbe(now time.Time) bool {
	return d.held && d.rateAt(now) > d.probeRate && now.Sub(d.probed) >= d.probe
}

// probeResult takes in how many writers queue for the lock of NOTIFY.
func (d *doorbell) probeResult(now time.Time, waiting int) {
	d.probed = now
	if waiting == 0 {
		d.contended = 0
	} else {
		d.contended++
	}
}

// polled takes in the result of a poll: the number of transactions that it saw,
// and whether the lock was obtained, if it was tried.
func (d *doorbell) polled(now time.Time, transactions int, op lockOp, got bool) {
	d.rate, d.rated = d.rateAt(now)+float64(transactions)/d.window.Seconds(), now
	switch {
	case op == lockRelease:
		d.held = false
		if d.contended > 1 {
			if now.Sub(d.holdUntil) > d.holdMax {
				d.holdFor = d.hold
			}
			d.holdUntil = now.Add(d.holdFor)
			d.holdFor = min(2*d.holdFor, d.holdMax)
		}
		d.contended = 0
		d.busy = now
	case op == lockTry && got:
		d.held = true
	}
	// A poll costs the same whether it finds one change or fifty, and takes the
	// processor away from those who make them: the more there are, the fewer polls.
	base := max(d.pollMin, time.Duration(min(1, d.rate/d.busyRate)*float64(d.pollBusy)))
	if transactions > 0 {
		d.busy = now
	}
	switch quiet := now.Sub(d.busy); {
	case quiet < d.idle:
		d.interval = base
	case quiet < d.long:
		d.interval = min(2*max(d.interval, base), d.pollMax)
	default:
		d.interval = d.pollIdle
	}
}
