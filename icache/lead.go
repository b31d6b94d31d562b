package icache

import "time"

// follow waits for another caller's computation of the same version. again
// says to look up once more: the result came too late to be fresh for f.
func (f *Fragment) follow(fl *flight) (again bool, err error) {
	defer fl.leave()
	var patience <-chan time.Time
	if f.scope.col != nil {
		// The one f waits for may in turn wait for a fragment around f.
		t := time.NewTimer(f.fc.leaseWait)
		defer t.Stop()
		patience = t.C
	}
	select {
	case <-fl.done:
	case <-patience:
		return false, nil
	case <-f.ctx.Done():
		return false, f.ctx.Err()
	}
	if fl.err != nil {
		if f.tryStale(f.fc.staleOnError) {
			return false, nil
		}
		return false, fl.err
	}
	if fl.entry == nil {
		return false, nil
	}
	// The computation may have begun before f did, so for the tokens found in
	// its course f must see for itself that they have not changed since.
	vals, ok, err := f.c.readExtra(f.ctx, fl.entry.extra)
	if err != nil {
		return false, nil
	}
	for i, t := range fl.entry.extra {
		ok = ok && vals[i] == fl.extra[t]
	}
	if !ok {
		return true, nil
	}
	if f.accept(fl.entry) != nil {
		return false, nil
	}
	f.report(f.look.vals, fl.entry.extra, vals, fl.entry.expires)
	f.hit(Shared, fl.entry, fl.entry.version)
	return false, nil
}

// lead makes f the one that computes, after it has got the lease, or serves an
// outdated fragment while somebody else does.
func (f *Fragment) lead() error {
	if f.fc.stale > 0 && f.later != nil && f.staleWithin(f.fc.stale) {
		if f.computeLater() && f.tryStale(f.fc.stale) {
			return nil
		}
	}
	if !f.fc.noLease && f.fc.leaseTTL > 0 {
		hit, err := f.acquire()
		if err != nil {
			f.finishFlight(nil, nil)
			return err
		}
		if hit {
			extra := make(map[string]uint64, len(f.look.extra))
			for i, t := range f.look.extra {
				extra[t] = f.look.extraVals[i]
			}
			if f.event.Outcome == StaleHit {
				f.finishFlight(nil, nil)
			} else {
				f.finishFlight(f.entry, extra)
			}
			return nil
		}
	}
	f.compute()
	return nil
}
