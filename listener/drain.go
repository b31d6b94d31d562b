package listener

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	minLimit     = 64  // rows of a poll, however large they are
	pagesPerRead = 128 // 1 MiB
)

// consume hands the batch to the handler and moves the cursor past it.
func (ld *leader) consume(ctx context.Context) error {
	b := &ld.batch
	if !b.more {
		ld.limit = min(2*ld.limit, ld.l.tune.chunkRows+1)
		if len(b.rows) > 0 {
			if err := ld.apply(ctx, b, b.rows); err != nil || ld.stopped {
				return err
			}
		}
		ld.advance(b.snap, math.MaxUint64, b.transactions > 0)
		return nil
	}
	// The last transaction may continue beyond the limit: leave it for the next poll.
	last := b.rows[len(b.rows)-1].xid
	cut := len(b.rows)
	for cut > 0 && b.rows[cut-1].xid == last {
		cut--
	}
	ld.limit = max(minLimit, min(len(b.rows), ld.limit)) // the limit of bytes may have come first
	if cut == 0 {
		return ld.large(ctx, last)
	}
	if err := ld.apply(ctx, b, b.rows[:cut]); err != nil || ld.stopped {
		return err
	}
	ld.advance(b.snap, b.rows[cut-1].xid, true)
	ld.limit = min(2*ld.limit, ld.l.tune.chunkRows+1)
	return nil
}

// advance moves the cursor past everything up to transaction last that the
// statement with snapshot now saw.
func (ld *leader) advance(now snapshot, last uint64, changes bool) {
	ld.cursor = ld.cursor.through(now, last)
	ld.l.stats.setCursor(ld.cursor)
	if ld.cursor.xmax > ld.l.seen.xmax {
		ld.l.seen = ld.cursor
	}
	if changes {
		ld.progress = true
		ld.rot.changed(time.Now())
		if soon := time.Now().Add(ld.l.tune.maintain); soon.Before(ld.nextCheck) {
			ld.nextCheck = soon
		}
	}
}

// large deals with a transaction that has more rows than fit into a batch: it
// reads the tables page by page, which no statement has to be held open for.
// The transaction has ended, so its rows are all there, and stay where they
// are unless somebody rewrites the table; then everything is done again.
func (ld *leader) large(ctx context.Context, xid uint64) error {
	sizes, files, err := ld.pageCounts(ld.work)
	if err != nil {
		return err
	}
	b := &ld.pageBatch
	for table, pages := range sizes {
		step := uint32(pagesPerRead)
		for from := uint32(0); from < pages; {
			if ctx.Err() != nil {
				return nil // the cursor stays
			}
			if ld.l.hooks.files != nil {
				ld.l.hooks.files(table)
			}
			rctx, cancel := context.WithTimeout(ld.work, ld.l.tune.chunkWait)
			current, err := ld.pages(rctx, b, table, from, from+step, xid)
			cancel()
			if err != nil {
				return err
			}
			if ld.l.hooks.read != nil {
				ld.l.hooks.read(b)
			}
			if current != files {
				ld.l.log.InfoContext(ctx, "listener: an outbox table was rewritten while it was read, reading it again")
				return nil
			}
			if b.more {
				step /= 2
				continue
			}
			if len(b.rows) > 0 {
				if err := ld.apply(ctx, b, b.rows); err != nil || ld.stopped {
					return err
				}
			}
			if pages-from <= step {
				break
			}
			from += step
			step = min(2*step, pagesPerRead)
		}
	}
	ld.advance(ld.batch.snap, xid, true)
	return nil
}

// pageCounts returns the sizes of the outbox tables in pages, and their files.
func (ld *leader) pageCounts(ctx context.Context) (pages [2]uint32, files string, err error) {
	ctx, cancel := context.WithTimeout(ctx, ld.l.patience())
	defer cancel()
	n := ld.l.names
	var p0, p1 int64
	err = ld.conn.QueryRow(ctx, fmt.Sprintf(`
SELECT pg_relation_size(%[1]s) / b, pg_relation_size(%[2]s) / b, %[3]s
  FROM (SELECT current_setting('block_size')::int AS b) AS s`, literal(n.Outbox(0)), literal(n.Outbox(1)), filesSQL(n))).Scan(&p0, &p1, &files)
	if err != nil {
		return pages, "", fmt.Errorf("read the size of the outbox: %w", err)
	}
	return [2]uint32{uint32(p0), uint32(p1)}, files, nil
}

// apply hands rows of b to the handler and returns once it has flushed them.
// While the handler fails, the rows stay in memory, no statement is open, and
// the session is kept alive. It sets stopped and returns nil if ctx ends first.
func (ld *leader) apply(ctx context.Context, b *batch, rows []row) error {
	if rows = ld.takeCanaries(b, rows); len(rows) > 0 {
		if err := ld.applyChanges(ctx, b, rows); err != nil || ld.stopped {
			return err
		}
	}
	return ld.arrived(ctx)
}

func (ld *leader) applyChanges(ctx context.Context, b *batch, rows []row) error {
	gone, err := ld.rels.resolve(ld.work, ld.session, rows, time.Now())
	if err != nil {
		return err
	}
	ld.mark(false)
	if err := ld.insist(ctx, "apply changes", func(work context.Context) error {
		var rel *relation
		var of uint32
		for _, r := range rows {
			if rel == nil || r.relation != of {
				rel, of = ld.rels.known[r.relation], r.relation
			}
			if rel.name == "" {
				continue
			}
			if err := ld.l.cfg.Handler.Apply(work, Change{Relation: r.relation, Table: rel.name, Op: r.op, Keys: b.keys(r)}); err != nil {
				return err
			}
		}
		return ld.l.cfg.Handler.Flush(work)
	}); err != nil || ld.stopped {
		return err
	}
	if len(gone) > 0 && slices.ContainsFunc(rows, func(r row) bool {
		return !ld.covered.has(r.xid) && slices.Contains(gone, r.relation)
	}) {
		reason := fmt.Sprintf("the table or partition with oid %d changed and exists no longer", gone[0])
		if err := ld.reset(ctx, reason); err != nil || ld.stopped {
			return err
		}
	}
	ld.count(rows)
	return nil
}

func (ld *leader) count(rows []row) {
	now := time.Now()
	ld.l.stats.update(func(s *Stats) {
		s.Changes += uint64(len(rows))
		s.LastChange = now
		for _, r := range rows {
			t := ld.rels.known[r.relation].stats
			t.Changes++
			if r.null && r.op != 'T' {
				t.Unknown++
				t.LastUnknown = now
			}
		}
	})
}

// reset has the handler treat everything as changed.
func (ld *leader) reset(ctx context.Context, reason string) error {
	ld.l.log.WarnContext(ctx, "listener: changes may have been missed, everything counts as changed", "reason", reason)
	ld.mark(!ld.savedRow)
	err := ld.insist(ctx, "reset", func(work context.Context) error { return ld.l.cfg.Handler.Reset(work, reason) })
	if err == nil && !ld.stopped {
		ld.l.stats.update(func(s *Stats) { s.Resets++; s.LastReset, s.LastResetReason = time.Now(), reason })
	}
	return err
}

// insist repeats f until it succeeds, ctx ends (then it sets stopped) or the
// connection is lost (the only error it returns).
func (ld *leader) insist(ctx context.Context, what string, f func(context.Context) error) error {
	pause := backoff{min: ld.l.tune.handlerMin, max: ld.l.tune.handlerMax}
	for failed := false; ; failed = true {
		err := ld.during(ld.work, f)
		if err == nil {
			if failed {
				ld.l.log.InfoContext(ctx, "listener: the handler works again")
				ld.l.setState(StateCatchingUp)
			}
			return nil
		}
		if _, lost := errors.AsType[*connError](err); lost {
			return err
		}
		if ctx.Err() != nil {
			ld.stopped = true
			return nil
		}
		ld.l.failed(fmt.Errorf("%s: %w", what, err))
		ld.l.stats.update(func(s *Stats) { s.HandlerErrors++ })
		ld.l.setState(StateBlocked)
		d := pause.next()
		ld.l.log.WarnContext(ctx, "listener: the handler failed, will try again", "doing", what, "error", err, "in", d)
		sleep(ctx, d)
		if ctx.Err() != nil {
			ld.stopped = true
			return nil
		}
		if err := ld.ping(ld.work); err != nil {
			return fmt.Errorf("connection lost while the handler failed: %w", err)
		}
	}
}
