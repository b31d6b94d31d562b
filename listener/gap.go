package listener

import (
	"context"
	"fmt"
	"time"
)

// Overflow. The triggers stop recording when the outbox has reached its limit,
// and set a flag. Until the flag is cleared changes pass unseen, so everything
// is reset, the tables are emptied, the flag is cleared, and everything is
// reset again: once for what was committed unseen, and once more when the
// transactions that were open as the flag was cleared, which may have left out
// their rows before that, have ended.
//
// The saved cursor is removed first and saved again when all this is over. A
// listener that dies halfway leaves none, and its successor resets everything.
type overflow struct {
	cleared   bool
	next      time.Time // the next attempt to clear the flag
	nextReset time.Time
	waiting   []uint64 // transactions that were open as the flag was cleared
}

const (
	overflowRetry = 100 * time.Millisecond
	overflowReset = 5 * time.Second // everything is reset this often while the flag cannot be cleared
	emptyBytes    = 64 << 10        // tables this small count as emptied
)

// rebase gives up what the cursor says: it has everything reset and then goes on
// from a cursor that has seen nothing, so that the rows which are still in the
// outbox are applied as well, for readers that a reset does not reach: a token
// that does not exist yet cannot be outdated, but it can be created. What was
// committed and is in the outbox no longer is covered by the reset.
func (ld *leader) rebase(ctx context.Context, reason string) error {
	if err := ld.startOver(nothing); err != nil {
		return err
	}
	restored, err := ld.restored()
	if err != nil {
		return err
	}
	ld.restoring = time.Time{}
	if !restored {
		ld.restoring = time.Now().Add(ld.l.tune.rules)
	}
	return ld.reset(ctx, reason)
}

// restored reports whether everything is there that a dump restores last: the
// indexes of icache's own tables, which come after their rows, and the triggers
// of every mapped table, which come after its rows.
func (ld *leader) restored() (done bool, err error) {
	ctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	n := ld.l.names
	err = ld.conn.QueryRow(ctx, fmt.Sprintf(`
SELECT (SELECT count(DISTINCT indrelid) FROM pg_index WHERE indrelid IN (%s::regclass, %s::regclass, %s::regclass, %s::regclass)) = 4
   AND NOT EXISTS (
       SELECT FROM %s AS t JOIN pg_class AS c ON c.oid = t.relation
        WHERE NOT EXISTS (
              SELECT FROM pg_trigger AS g JOIN pg_proc AS p ON p.oid = g.tgfoid
               WHERE g.tgrelid = c.oid AND p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)))`,
		literal(n.Outbox(0)), literal(n.Outbox(1)), literal(n.Cursor()), literal(n.Tables()), n.Tables(), literal(n.Schema()))).Scan(&done)
	if err != nil {
		return false, fmt.Errorf("look for the triggers: %w", err)
	}
	return done, nil
}

// checkRestored has everything reset once more when a restore is over that was
// under way at the reset before: no trigger recorded the rows that it loaded since.
func (ld *leader) checkRestored(ctx context.Context, now time.Time) error {
	if ld.restoring.IsZero() || now.Before(ld.restoring) {
		return nil
	}
	ld.restoring = now.Add(ld.l.tune.rules)
	done, err := ld.restored()
	if err != nil || !done {
		return err
	}
	if err := ld.reset(ctx, "triggers that were missing are there again, as after restoring a dump"); err != nil || ld.stopped {
		return err
	}
	ld.restoring = time.Time{}
	return nil
}

// startOver removes the saved cursor and goes on from another.
func (ld *leader) startOver(from snapshot) error {
	if err := ld.dropCursor(ld.work); err != nil {
		return err
	}
	ld.savedRow = false
	now, err := ld.currentSnapshot(ld.work)
	if err != nil {
		return err
	}
	ld.cursor, ld.l.seen, ld.covered = from, now, now
	ld.nextSave = time.Time{}
	return nil
}

func (s *session) currentSnapshot(ctx context.Context) (snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.l.patience())
	defer cancel()
	res, err := s.pg.Exec(ctx, "SELECT pg_current_snapshot()").ReadAll()
	if err != nil {
		return snapshot{}, fmt.Errorf("take a snapshot: %w", err)
	}
	return parseSnapshot(string(res[0].Rows[0][0]))
}

// overflowed begins to deal with the flag. The rows of the batch, and whatever
// else is in the tables, are dropped: what was not recorded is unknown anyway,
// the reset covers all of it, and nothing is recorded until the tables are empty.
func (ld *leader) overflowed(ctx context.Context) error {
	ld.over = &overflow{nextReset: time.Now().Add(overflowReset)}
	now, err := ld.currentSnapshot(ld.work)
	if err != nil {
		return err
	}
	if err := ld.startOver(now); err != nil {
		return err
	}
	return ld.reset(ctx, "the outbox reached its size limit and changes went unrecorded")
}

// mend brings an overflow nearer to its end.
func (ld *leader) mend(ctx context.Context, now time.Time) error {
	o := ld.over
	if o.cleared {
		left := o.waiting[:0]
		for _, x := range o.waiting {
			if !ld.batch.snap.has(x) {
				left = append(left, x)
			}
		}
		if o.waiting = left; len(left) > 0 {
			return nil
		}
		return ld.mended(ctx, "transactions that were open when the outbox overflowed have ended")
	}
	if now.Before(o.next) {
		return nil
	}
	o.next = now.Add(overflowRetry)
	size, err := ld.empty(ctx)
	if err != nil {
		return err
	}
	if size > emptyBytes {
		if now.Before(o.nextReset) {
			return nil
		}
		o.nextReset = now.Add(overflowReset)
		return ld.reset(ctx, "changes go unrecorded: the outbox is at its size limit and cannot be emptied yet")
	}
	wctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	if err := ld.exec(wctx, "SELECT setval("+literal(ld.l.names.Overflow())+", 0)"); err != nil {
		return fmt.Errorf("clear the overflow flag: %w", err)
	}
	open, err := ld.currentSnapshot(ld.work)
	if err != nil {
		return err
	}
	if err := ld.reset(ctx, "the outbox records changes again"); err != nil || ld.stopped {
		return err
	}
	o.cleared, o.waiting = true, open.xip
	if len(o.waiting) == 0 {
		ld.over = nil
	}
	ld.l.stats.update(func(s *Stats) { s.ResetPending = ld.over != nil })
	return nil
}

func (ld *leader) mended(ctx context.Context, reason string) error {
	if err := ld.reset(ctx, reason); err != nil || ld.stopped {
		return err
	}
	ld.over = nil
	ld.l.stats.update(func(s *Stats) { s.ResetPending = false })
	return nil
}
