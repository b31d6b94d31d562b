package icache

import (
	"time"
)

const (
	firstLeasePoll = 5 * time.Millisecond
	lastLeasePoll  = 50 * time.Millisecond
)

// acquire gets the lease on the computation of a fragment at a version, so
// that of all processes one computes. The version is in the lease's name: one
// from before an increment does not stand in the way of the next. While
// another process has it, acquire waits for the result; hit says it has come.
// A lease that cannot be had is done without: it saves work, nothing else.
func (f *Fragment) acquire() (hit bool, err error) {
	deadline := time.Now().Add(f.fc.leaseWait)
	for delay := firstLeasePoll; ; delay = min(2*delay, lastLeasePoll) {
		got, changed, err := f.tryLease()
		switch {
		case err != nil:
			f.c.hookError(f.ctx, "lease", err)
			return false, f.ctx.Err()
		case got && !changed:
			return false, nil
		case !got:
			f.c.stats.leaseWaits.Add(1)
			if f.tryStale(f.fc.stale) {
				return true, nil
			}
			if time.Now().After(deadline) {
				return false, nil
			}
			select {
			case <-time.After(delay):
			case <-f.ctx.Done():
				return false, f.ctx.Err()
			}
		}
		look, err := f.c.lookup(f.ctx, f.plan, f.fc)
		if err != nil || look.lapsed {
			return false, f.ctx.Err()
		}
		moved := look.static != f.look.static
		f.setLook(look)
		if f.tryHit() {
			f.dropLease()
			return true, nil
		}
		if got && !moved {
			return false, nil
		}
		if moved {
			f.dropLease()
		}
	}
}

// tryLease asks for the lease and, in the same round trip, whether the stored
// fragment is another than the one that was looked up.
func (f *Fragment) tryLease() (got, changed bool, err error) {
	ctx, cancel := f.c.redis.context(f.ctx)
	defer cancel()
	key := f.c.leaseKey(f.plan.name, f.look.static)
	pipe := f.c.redis.read.Pipeline()
	set := pipe.SetNX(ctx, key, 1, f.fc.leaseTTL)
	head := pipe.GetRange(ctx, f.plan.fragment, 0, fixedHeader-1)
	if _, err := pipe.Exec(ctx); err != nil {
		return false, false, redisError("lease", err)
	}
	if set.Val() {
		f.lease = key
	}
	seen := Version(0)
	if f.look.entry != nil {
		seen = f.look.entry.version
	}
	b := []byte(head.Val())
	changed = len(b) == fixedHeader && string(b[versionOffset:versionOffset+8]) != string(versionBytes(seen))
	return set.Val(), changed, nil
}

// dropLease gives the lease back. By now it may be another's, after its time
// has run out; then one computation happens twice.
func (f *Fragment) dropLease() {
	if f.lease == "" {
		return
	}
	ctx, cancel := f.storeContext()
	defer cancel()
	if err := f.c.redis.read.Unlink(ctx, f.lease).Err(); err != nil {
		f.c.hookError(ctx, "lease", redisError("give lease back", err))
	}
	f.lease = ""
}
