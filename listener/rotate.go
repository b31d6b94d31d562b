package listener

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/icache-go/icache-agent/internal/outbox"
)

const (
	checkIdle     = 30 * time.Second // both tables empty: rolled back rows may take up space unseen
	checkFlipped  = 200 * time.Millisecond
	quietRefill   = 30 * time.Second
	quietCapacity = 3
	stateUnread   = "IC001"
	queueLimit    = 0.5
)

// rotation decides when to write to the other outbox table. Emptying a table
// costs a flush, and every backend a look at the catalog, so it is done when
// the table is large or old, or when nothing has happened for a moment; the
// latter, which a steady trickle would trigger again and again, a few times a
// minute at most.
type rotation struct {
	flipped  time.Time
	lastSeen time.Time // changes
	quiet    float64   // rotations for quiet that may be done now
	refilled time.Time
	blocked  time.Time
	canaries bool // the table in use is hardly ever empty
}

func newRotation(now time.Time) rotation {
	return rotation{flipped: now, lastSeen: now, quiet: quietCapacity, refilled: now}
}

func (r *rotation) changed(now time.Time) { r.lastSeen = now }

// canariesOnly reports that all that was written since the last flip are
// canaries, which are in no hurry to be emptied.
func (r *rotation) canariesOnly() bool { return r.canaries && !r.lastSeen.After(r.flipped) }

// due reports whether to flip, given the size of the table in use.
func (r *rotation) due(now time.Time, size int64, t tuning) bool {
	r.quiet = min(quietCapacity, r.quiet+now.Sub(r.refilled).Seconds()/quietRefill.Seconds())
	r.refilled = now
	switch {
	case size == 0:
		return false
	case size >= t.rotateBytes, now.Sub(r.flipped) >= t.rotateAge:
		return true
	case now.Sub(r.lastSeen) >= t.quiet && r.quiet >= 1 && !r.canariesOnly():
		r.quiet--
		return true
	}
	return false
}

// rotate empties the table that is not in use, or flips to it.
func (ld *leader) rotate(ctx context.Context, now time.Time) error {
	sizes, active, err := ld.outboxSizes()
	if err != nil {
		return err
	}
	ld.nextCheck = now.Add(checkIdle)
	if sizes[0]+sizes[1] > 0 {
		ld.nextCheck = now.Add(ld.l.tune.maintain)
	}
	other := 1 - active
	if sizes[other] > 0 {
		done, err := ld.truncate(ctx, other, now)
		if err != nil || !done {
			return err
		}
		sizes[other] = 0
	}
	if ld.rot.canariesOnly() {
		ld.nextCheck = now.Add(checkIdle)
	}
	if ld.rot.due(now, sizes[active], ld.l.tune) {
		if err := ld.flip(other); err != nil {
			return err
		}
		ld.rot.flipped = now
		ld.nextCheck = now.Add(min(checkFlipped, ld.l.tune.maintain))
	}
	ld.l.stats.update(func(s *Stats) { s.OutboxBytes = sizes[0] + sizes[1] })
	return nil
}

// empty tries to empty both tables, and returns the size that is left.
func (ld *leader) empty(ctx context.Context) (int64, error) {
	for range 2 {
		sizes, active, err := ld.outboxSizes()
		if err != nil {
			return 0, err
		}
		if sizes[1-active] > 0 {
			if done, err := ld.truncate(ctx, 1-active, time.Now()); err != nil || !done {
				return sizes[0] + sizes[1], err
			}
		}
		if sizes[active] == 0 {
			return 0, nil
		}
		if err := ld.flip(1 - active); err != nil {
			return 0, err
		}
	}
	sizes, active, err := ld.outboxSizes()
	if err == nil && sizes[1-active] > 0 {
		_, err = ld.truncate(ctx, 1-active, time.Now())
		if err == nil {
			sizes, _, err = ld.outboxSizes()
		}
	}
	return sizes[0] + sizes[1], err
}

// outboxSizes also looks how full the queue of NOTIFY is. A listener of somebody
// else's that does not read can fill it, and then notifying commits fail: past
// half of it the doorbell is not used.
func (ld *leader) outboxSizes() (sizes [2]int64, active int, err error) {
	ctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	n := ld.l.names
	var queue float64
	err = ld.conn.QueryRow(ctx, fmt.Sprintf(
		`SELECT pg_relation_size(%s), pg_relation_size(%s), (SELECT last_value::int & 1 FROM %s), pg_notification_queue_usage()`,
		literal(n.Outbox(0)), literal(n.Outbox(1)), n.Active())).Scan(&sizes[0], &sizes[1], &active, &queue)
	if err != nil {
		return sizes, 0, fmt.Errorf("read the size of the outbox: %w", err)
	}
	if full := queue > queueLimit; full != ld.bell.queueFull {
		ld.bell.queueFull = full
		ld.l.log.WarnContext(ctx, "listener: the queue of NOTIFY is filling up because some session listens and does not read, or is so no longer",
			"usage", queue, "doorbell", !full)
	}
	ld.l.stats.update(func(s *Stats) { s.NotifyQueue = queue })
	return sizes, active, nil
}

// flip has writers use the other table. The sequence is not under MVCC: every
// session sees the change at once, those in REPEATABLE READ too. A writer that
// read it just before still inserts into the table used so far, which does no
// harm, since polls always read both.
func (ld *leader) flip(to int) error {
	ctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	if err := ld.exec(ctx, fmt.Sprintf("SELECT setval(%s, %d)", literal(ld.l.names.Active()), to)); err != nil {
		return fmt.Errorf("change outbox tables: %w", err)
	}
	return nil
}

// truncateSQL empties a table if nothing in it is unread. The lock proves that
// no transaction that wrote to it is still open, and the query behind it sees
// all that have ended. The saved cursor learns of the new file. NOWAIT: behind a
// waiting lock every writer would queue. For the same reason the lock comes last,
// when nothing else has to be waited for: whoever drops the schema, or restores
// a dump over it, locks the cursor too.
func truncateSQL(n outbox.Names, table int, cursor snapshot, e epoch) string {
	xip := make([]string, len(cursor.xip))
	for i, x := range cursor.xip {
		xip[i] = fmt.Sprintf("'%d'", x)
	}
	return fmt.Sprintf(`DO $icache$
BEGIN
  LOCK TABLE %[5]s IN ROW EXCLUSIVE MODE NOWAIT;
  PERFORM FROM %[5]s FOR UPDATE NOWAIT;
  LOCK TABLE %[1]s IN ACCESS EXCLUSIVE MODE NOWAIT;
  IF EXISTS (SELECT FROM %[1]s WHERE xid >= '%[2]d' AND xid < pg_snapshot_xmax(pg_current_snapshot()))
  OR EXISTS (SELECT FROM %[1]s WHERE xid = ANY (ARRAY[%[3]s]::xid8[])) THEN
    RAISE EXCEPTION 'unread changes' USING ERRCODE = '%[4]s';
  END IF;
  TRUNCATE %[1]s;
  UPDATE %[5]s SET timeline = %[6]s || %[7]s;
END $icache$`, n.Outbox(table), cursor.xmax, strings.Join(xip, ","), stateUnread,
		n.Cursor(), literal(e.timeline+filesSeparator), filesAfter(n, table, e.files))
}

// truncate empties a table unless somebody uses it or it has unread rows, which
// is normal and tried again later.
func (ld *leader) truncate(ctx context.Context, table int, now time.Time) (bool, error) {
	tctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	cursor, _, ok := ld.settled()
	if !ok {
		cursor = ld.cursor // whoever finds no cursor resets everything
	}
	err := ld.exec(tctx, truncateSQL(ld.l.names, table, cursor, ld.epoch))
	switch sqlState(err) {
	case "55P03", stateUnread, "40P01": // in use, unread, deadlock
		if ld.rot.blocked.IsZero() {
			ld.rot.blocked = now
		}
		ld.l.stats.update(func(s *Stats) { s.RotationBlocked = ld.rot.blocked })
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("empty %s: %w", ld.l.names.Outbox(table), err)
	}
	if err := ld.truncated(table); err != nil {
		return false, err
	}
	ld.l.log.DebugContext(ctx, "listener: emptied an outbox table", "table", ld.l.names.Outbox(table))
	ld.rot.blocked = time.Time{}
	ld.l.stats.update(func(s *Stats) { s.Rotations++; s.RotationBlocked = time.Time{} })
	return true, nil
}
