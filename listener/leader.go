package listener

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// leader is a session that holds the leader lock.
type leader struct {
	*session
	work    context.Context // outlives the context of Run for a moment
	epoch   epoch
	bell    *doorbell
	rels    relations
	batch   batch
	cursor  snapshot
	over    *overflow // changes went unrecorded, and that is not over yet
	covered snapshot  // what the last reset of everything is known to have covered
	rot     rotation
	limit   int // rows of the next poll
	rules   rules
	canary  canaries

	pageBatch batch
	stopped   bool // the handler failed as ctx ended: nothing more is to be done

	progress  bool // changes have been applied since the cursor was saved
	savedRow  bool // there is a row in the cursor table
	nextSave  time.Time
	nextCheck time.Time // of the outbox tables' sizes
	nextBeat  time.Time // a poll is due by then

	restoring time.Time // objects were missing at the last reset; when to look for them again

	trail trail    // where the cursor was before what has not settled
	saved snapshot // the saved cursor, if savedRow
}

// awaitLeadership returns true once the leader lock is held, false if ctx ended.
//
// It asks again and again instead of waiting for the lock: a session that waits
// in pg_advisory_lock has a snapshot, which would hold back vacuum in the whole
// cluster for as long as the other leader lives (docs/adr/0001).
func (s *session) awaitLeadership(ctx, work context.Context) (bool, error) {
	sql := fmt.Sprintf("SELECT pg_try_advisory_lock(%d)", s.l.names.LeaderKey())
	for ctx.Err() == nil {
		got, err := s.tryLeadership(work, sql)
		if err != nil {
			return false, fmt.Errorf("try the leader lock: %w", err)
		}
		s.l.timeouts.Store(0)
		if got {
			return true, nil
		}
		if s.l.Stats().State != StateStandby {
			s.l.log.InfoContext(ctx, "listener: another agent is the leader, standing by")
			s.l.setState(StateStandby)
		}
		sleep(ctx, jitter(s.l.tune.leaderPoll))
	}
	return false, nil
}

func (s *session) tryLeadership(ctx context.Context, sql string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.l.patience())
	defer cancel()
	res, err := s.pg.Exec(ctx, sql).ReadAll()
	if err != nil {
		return false, err
	}
	return string(res[0].Rows[0][0]) == "t", nil
}

// takeOver listens before anything is read, and finds out where to go on.
func (s *session) takeOver(ctx, work context.Context) (*leader, error) {
	l := s.l
	if l.hooks.led != nil {
		l.hooks.led(s)
	}
	if err := s.checkSchema(work); err != nil { // it may have changed while standing by
		return nil, err
	}
	if err := s.exec(work, "LISTEN "+pgx.Identifier{l.names.Channel()}.Sanitize()); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := s.prepare(work); err != nil {
		return nil, err
	}
	if err := s.findCanaries(work); err != nil {
		return nil, err
	}
	e, err := s.readEpoch(work)
	if err != nil {
		return nil, err
	}
	saved, err := s.loadCursor(work)
	if err != nil {
		return nil, err
	}
	wake := l.cfg.Wake
	if wake == WakeAuto {
		wake = WakeDoorbell
		if e.prepared > 0 {
			wake = WakePoll
		}
	} else if wake == WakeDoorbell && e.prepared > 0 {
		l.log.WarnContext(ctx, "listener: transactions that write mapped tables cannot be prepared (PREPARE TRANSACTION) "+
			"while the listener sleeps; use wake: auto or poll", "max_prepared_transactions", e.prepared)
	}
	now := time.Now()
	ld := &leader{
		session: s, work: work, epoch: e, bell: newDoorbell(l.tune.bell, wake, now),
		limit: l.tune.chunkRows + 1, nextCheck: now, rot: newRotation(now),
	}
	ld.rot.canaries = ld.canariesFly()
	l.setState(StateCatchingUp)
	l.stats.update(func(st *Stats) { st.Wake, st.Server = wake, e.serverVer })
	l.log.InfoContext(ctx, "listener: leading", "schema", l.names.Schema(), "wake", string(wake), "server", e.serverVer)
	if reason := gapBetween(saved, e, l.seen); reason != "" {
		if err := ld.rebase(ctx, reason); err != nil || ld.stopped {
			return ld, err
		}
		l.led = true
		return ld, ld.takeRules(ctx, true)
	}
	if !saved.started.Equal(e.started) {
		l.log.InfoContext(ctx, "listener: postgres was restarted cleanly, nothing was lost", "started", e.started)
	}
	ld.cursor, ld.saved, ld.savedRow, l.led = saved.cursor, saved.cursor, true, true
	return ld, ld.takeRules(ctx, false)
}

// run reads and applies until ctx ends or the session fails.
func (ld *leader) run(ctx context.Context) error {
	for ctx.Err() == nil && !ld.stopped {
		if err := ld.step(ctx); err != nil {
			return err
		}
		if ld.batch.more || ld.stopped {
			continue
		}
		if err := ld.rest(ctx); err != nil {
			return err
		}
	}
	return ld.handOver()
}

// step polls once and deals with what comes.
func (ld *leader) step(ctx context.Context) error {
	l, b, now := ld.l, &ld.batch, time.Now()
	if err := ld.sendCanary(ctx, now); err != nil {
		return err
	}
	op := ld.bell.next(now)
	err := ld.read(op)
	if err != nil {
		return err
	}
	if l.hooks.read != nil {
		l.hooks.read(b)
	}
	now = time.Now()
	ld.bell.polled(now, b.transactions, op, b.got)
	ld.nextBeat = now.Add(l.cfg.Heartbeat)
	ld.report(op, now)
	if b.files != ld.epoch.files || b.position != ld.epoch.position {
		return ld.changed(ctx)
	}
	if b.cut { // nothing was taken in: a backlog is read in the long form
		b.more = true
		return nil
	}
	if b.overflow && (ld.over == nil || ld.over.cleared) {
		err = ld.overflowed(ctx)
		b.more = false
	} else {
		err = ld.consume(ctx)
	}
	if err != nil || ld.stopped {
		return err
	}
	if ld.bell.wantsProbe(now) { // only now, when nobody waits for it
		waiting, err := ld.queueing(ld.work)
		if err != nil {
			return err
		}
		ld.bell.probeResult(now, waiting)
	}
	return ld.maintain(ctx)
}

// changed deals with tables that are not those of before. What was read is
// dropped, since it was read after the old cursor.
func (ld *leader) changed(ctx context.Context) error {
	reason := emptied
	if ld.batch.position != ld.epoch.position {
		reason = replaced
	}
	var err error
	if ld.epoch, err = ld.readEpoch(ld.work); err != nil {
		return err
	}
	if err := ld.findCanaries(ld.work); err != nil {
		return err
	}
	ld.batch.more = true
	return ld.rebase(ctx, reason)
}

// read runs a poll with the deadline that fits what is expected.
func (ld *leader) read(op lockOp) error {
	d := ld.l.patience()
	if ld.batch.more {
		d = ld.l.tune.chunkWait
	}
	ctx, cancel := context.WithTimeout(ld.work, d)
	defer cancel()
	limit := ld.limit
	switch {
	case ld.l.hooks.limit != nil:
		limit = ld.l.hooks.limit()
	case !ld.batch.more && ld.limit > shortRows && ld.cursor.short():
		limit = 0
	}
	if err := ld.poll(ctx, &ld.batch, ld.cursor, op, limit); err != nil {
		return err
	}
	ld.l.timeouts.Store(0)
	return nil
}

func (ld *leader) report(op lockOp, now time.Time) {
	state := StateAwake
	switch {
	case ld.batch.more:
		state = StateCatchingUp
	case ld.bell.held:
		state = StateAsleep
	}
	ld.l.stats.update(func(s *Stats) {
		s.Polls++
		s.Bells += ld.bells
		s.Transactions += uint64(ld.batch.transactions)
		s.LastPoll, s.State, s.Overflow = now, state, ld.batch.overflow
		if op == lockRelease {
			s.Wakes++
		}
		if op == lockTry && ld.bell.held {
			s.Sleeps++
		}
	})
	ld.bells = 0
}

// rest waits for the bell, or for the time of the next poll.
func (ld *leader) rest(ctx context.Context) error {
	if !ld.bell.held {
		if d := ld.bell.interval; d < time.Millisecond {
			nap(d)
		} else {
			sleep(ctx, d)
		}
		return nil
	}
	for !ld.rung && ctx.Err() == nil && !ld.stopped {
		d := time.Until(ld.due())
		if d <= 0 {
			break
		}
		if err := ld.wait(ctx, d); err != nil {
			return err
		}
		if !ld.rung && ctx.Err() == nil {
			if err := ld.maintain(ctx); err != nil {
				return err
			}
		}
		if !ld.rung && !time.Now().Before(ld.nextBeat) {
			if ld.l.tune.sweep {
				return nil
			}
			if err := ld.ping(ld.work); err != nil {
				return fmt.Errorf("heartbeat: %w", err)
			}
			ld.nextBeat = time.Now().Add(ld.l.cfg.Heartbeat)
		}
	}
	return nil
}

// due is when something has to be done even if the bell does not ring.
func (ld *leader) due() time.Time {
	t := ld.nextBeat
	if ld.unsaved() && ld.nextSave.Before(t) {
		t = ld.nextSave
	}
	if ld.over != nil && !ld.over.cleared && ld.over.next.Before(t) {
		t = ld.over.next
	}
	if ld.nextCheck.Before(t) {
		t = ld.nextCheck
	}
	if ld.canariesFly() && ld.canary.next.Before(t) {
		t = ld.canary.next
	}
	return t
}

// unsaved reports whether there is progress worth saving. That transactions
// ended without a change is none: reading on from before them finds the same.
// Nothing is saved before the last reset of a gap: a successor has to begin again.
func (ld *leader) unsaved() bool {
	return ld.over == nil && ld.restoring.IsZero() && (!ld.savedRow || ld.progress)
}

// maintain does what is due: save the cursor, close a gap, rotate.
func (ld *leader) maintain(ctx context.Context) error {
	now := time.Now()
	if ld.over != nil {
		if err := ld.mend(ctx, now); err != nil || ld.stopped {
			return err
		}
	}
	if ld.unsaved() && !now.Before(ld.nextSave) {
		if err := ld.save(ctx); err != nil {
			return err
		}
	}
	if err := ld.checkRestored(ctx, now); err != nil || ld.stopped {
		return err
	}
	if err := ld.checkRules(ctx, now); err != nil || ld.stopped {
		return err
	}
	if !now.Before(ld.nextCheck) {
		if err := ld.rotate(ctx, now); err != nil {
			return err
		}
	}
	return nil
}

// save saves the cursor. With a snapshot held open elsewhere the dead versions
// of its row pile up and each update takes longer; saving less often bounds that.
func (ld *leader) save(ctx context.Context) error {
	start := time.Now()
	cursor, pending, ok := ld.settled()
	if !ok || pending && ld.savedRow && cursor.equal(ld.saved) {
		ld.nextSave = start.Add(ld.l.tune.save)
		return nil
	}
	missing, err := ld.saveCursor(ld.work, ld.epoch, cursor, !ld.savedRow)
	if err != nil {
		return err
	}
	if missing {
		return ld.rebase(ctx, "the saved cursor was removed")
	}
	now := time.Now()
	ld.progress, ld.saved, ld.savedRow = pending, cursor, true
	ld.nextSave = now.Add(max(ld.l.tune.save, 50*now.Sub(start)))
	ld.l.stats.update(func(s *Stats) { s.CursorSaved = now })
	return nil
}

// handOver ends the leadership so that another agent can go on at once.
func (ld *leader) handOver() error {
	if cursor, _, ok := ld.settled(); ok && ld.unsaved() && !ld.stopped {
		if _, err := ld.saveCursor(ld.work, ld.epoch, cursor, !ld.savedRow); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	if err := ld.exec(ctx, "SELECT pg_advisory_unlock_all()"); err != nil {
		return fmt.Errorf("release the leader lock: %w", err)
	}
	return nil
}
