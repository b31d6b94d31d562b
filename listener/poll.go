package listener

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// statements are prepared once per session.
type statements struct {
	poll, short, tryLock, release, waiting *pgconn.StatementDescription
	page                                   [2]*pgconn.StatementDescription
	filenode                               *pgconn.StatementDescription
}

// pollSQL reads, in one statement and so with one snapshot, what that snapshot
// sees and the cursor does not have: $1 is the cursor's xmax, $2 its xip, $3
// the most rows wanted. The first row is a header: the snapshot, whether changes
// went unrecorded, and the files of the tables and of the cursor table.
//
// That a row's transaction has ended follows from the row being visible, unless
// it came with a dump of another cluster, where its id may be that of a
// transaction which is open or in the future here. Such rows would be read again
// by every poll, and in front of all others; they are left alone, and go when the
// table is emptied. Those with ids from the past are read like any other.
func pollSQL(n outbox.Names) string {
	branch := func(i int, cond string) string {
		return fmt.Sprintf(`(SELECT xid, relation, op, keys FROM %s WHERE %s ORDER BY xid LIMIT $3)`, n.Outbox(i), cond)
	}
	const (
		ended = ` AND pg_visible_in_snapshot(xid, (SELECT pg_current_snapshot()))` // evaluated once, not for each row
		since = `xid >= $1 AND xid < pg_snapshot_xmax(pg_current_snapshot())` + ended
		open  = `xid = ANY ($2)` + ended
	)
	return headerSQL(n) + fmt.Sprintf(`
UNION ALL
(SELECT xid, relation, op, keys FROM (
  %s) AS o ORDER BY xid LIMIT $3)`,
		strings.Join([]string{branch(0, since), branch(1, since), branch(0, open), branch(1, open)}, "\n  UNION ALL\n  "))
}

// headerSQL returns the header. A sequence that was never set, as after loading a
// dump of the schema alone, has no last value; nor has one, since Postgres 17,
// for a role that may not read it, and that must not pass for 0.
func headerSQL(n outbox.Names) string {
	return fmt.Sprintf(`
SELECT NULL::xid8 AS xid, 0::oid AS relation, ' '::"char" AS op,
  to_jsonb(concat_ws(' ', pg_current_snapshot(),
    coalesce(pg_sequence_last_value(%[1]s), CASE WHEN has_sequence_privilege(%[1]s, 'SELECT') THEN 0 END), %[2]s, %[3]s)) AS keys`,
		literal(n.Overflow()), filesSQL(n), cursorFileSQL(n))
}

// shortSQL reads the same for a fraction of the time, which is what the way
// from a commit to its bump mostly consists of: $1 is the cursor, $2 the most
// rows wanted of each table. It has two index scans instead of four, and sorts
// nothing. The price is that it passes over the rows between the oldest open
// transaction of the cursor and its end, which have been dealt with, so it is
// for when these are few; and that of more rows than wanted it may return any.
func shortSQL(n outbox.Names) string {
	branch := func(i int) string {
		return fmt.Sprintf(`
UNION ALL (SELECT xid, relation, op, keys FROM %s
  WHERE xid >= pg_snapshot_xmin($1) AND NOT pg_visible_in_snapshot(xid, $1)
    AND xid < pg_snapshot_xmax(pg_current_snapshot()) AND pg_visible_in_snapshot(xid, pg_current_snapshot())
  ORDER BY xid LIMIT $2)`, n.Outbox(i))
	}
	return headerSQL(n) + branch(0) + branch(1)
}

// pageSQL reads what one transaction wrote into a range of pages. The odd form
// of the condition keeps the planner from the index, with which every page
// range would visit all of the transaction's entries.
func pageSQL(n outbox.Names, i int) string {
	return fmt.Sprintf(`SELECT xid, relation, op, keys::text FROM %s WHERE ctid >= $1 AND ctid < $2 AND (xid = $3) IS TRUE`, n.Outbox(i))
}

const waitingSQL = `SELECT count(*) FROM pg_locks
 WHERE locktype = 'object' AND classid = 1262 AND objid = 0 AND NOT granted`

const (
	oidText     = 25
	oidInt8     = 20
	oidXID8     = 5069
	oidXID8s    = 271
	oidTID      = 27
	oidSnapshot = 5038
)

func (s *session) prepare(ctx context.Context) error {
	n := s.l.names
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for _, p := range []struct {
		dst  **pgconn.StatementDescription
		name string
		sql  string
		oids []uint32
	}{
		{&s.stmt.poll, "poll", pollSQL(n), []uint32{oidXID8, oidXID8s, oidInt8}},
		{&s.stmt.short, "short", shortSQL(n), []uint32{oidSnapshot, oidInt8}},
		{&s.stmt.tryLock, "try_lock", fmt.Sprintf("SELECT pg_try_advisory_lock(%d)", n.DoorbellKey()), nil},
		{&s.stmt.release, "release", fmt.Sprintf("SELECT pg_advisory_unlock(%d)", n.DoorbellKey()), nil},
		{&s.stmt.waiting, "waiting", waitingSQL, nil},
		{&s.stmt.page[0], "page_0", pageSQL(n, 0), []uint32{oidTID, oidTID, oidXID8}},
		{&s.stmt.page[1], "page_1", pageSQL(n, 1), []uint32{oidTID, oidTID, oidXID8}},
		{&s.stmt.filenode, "filenode", "SELECT " + filesSQL(n), nil},
	} {
		sd, err := s.pg.Prepare(ctx, p.name, p.sql, p.oids)
		if err != nil {
			return fmt.Errorf("prepare statement %s: %w", p.name, err)
		}
		*p.dst = sd
	}
	return nil
}

// row is one outbox row; its keys are in the batch's arena.
type row struct {
	xid      uint64
	relation uint32
	op       byte
	null     bool
	from, to int
}

// batch is the result of a poll. It is used again and again.
type batch struct {
	rows  []row
	arena []byte
	// more says that rows were left out: beyond the limit of rows or of bytes.
	more bool
	// cut says that a short poll had more rows than it may have. None is in rows.
	cut          bool
	transactions int // those that are not canaries

	snap     snapshot
	files    string // of the tables
	position string // the file of the cursor table
	overflow bool
	got      bool // the lock
}

func (b *batch) keys(r row) []byte {
	if r.null {
		return nil
	}
	return b.arena[r.from:r.to:r.to]
}

func (b *batch) reset() {
	b.rows, b.arena = b.rows[:0], b.arena[:0]
	b.more, b.cut, b.transactions, b.overflow, b.got = false, false, 0, false, false
}

// appendRow copies a row; the connection reuses its buffer.
func (b *batch) appendRow(v [][]byte) error {
	if len(v[0]) != 8 || len(v[1]) != 4 || len(v[2]) != 1 {
		return errors.New("outbox row has an unknown form")
	}
	r := row{
		xid: binary.BigEndian.Uint64(v[0]), relation: binary.BigEndian.Uint32(v[1]), op: v[2][0],
		null: v[3] == nil, from: len(b.arena),
	}
	b.arena = append(b.arena, v[3]...)
	r.to = len(b.arena)
	b.rows = append(b.rows, r)
	return nil
}

var (
	rowFormats   = []int16{1, 1, 1, 0}
	pollFormats  = []int16{1, 0, 1}
	shortFormats = []int16{0, 1}
	pageFormats  = []int16{0, 0, 1}
	textFormats  = []int16{0}

	errNoHeader = errors.New("poll returned no header")
)

const (
	shortRows   = 500  // of each table; more are a backlog
	shortWindow = 1000 // transaction ids
)

// short reports whether the short form of the poll will do from a cursor.
func (s snapshot) short() bool { return s.xmax-s.xmin() <= shortWindow }

// poll runs the lock operation, then reads up to limit rows after the cursor,
// in one round trip; the short form if limit is 0. The batch is an implicit
// transaction, but under READ COMMITTED each statement takes its own snapshot:
// that of the poll is taken when the lock has been obtained.
func (s *session) poll(ctx context.Context, b *batch, cursor snapshot, op lockOp, limit int) error {
	b.reset()
	var q pgconn.Batch
	switch op {
	case lockTry:
		q.ExecStatement(s.stmt.tryLock, nil, nil, textFormats)
	case lockRelease:
		q.ExecStatement(s.stmt.release, nil, nil, textFormats)
	}
	short := limit == 0
	if short {
		limit = shortRows
		q.ExecStatement(s.stmt.short, [][]byte{[]byte(cursor.String()), bigint(uint64(limit))}, shortFormats, rowFormats)
	} else {
		q.ExecStatement(s.stmt.poll, [][]byte{bigint(cursor.xmax), xidArray(cursor.xip), bigint(uint64(limit))}, pollFormats, rowFormats)
	}
	res := s.pg.ExecBatch(ctx, &q)
	first := true
	next := func() *pgconn.ResultReader {
		if !res.NextResult() {
			return nil
		}
		if first {
			// The backend delivers notifications only between transactions. Those
			// that came before its first answer were sent before the poll began,
			// which therefore sees what they are about.
			s.rung, first = false, false
		}
		return res.ResultReader()
	}
	if op != lockKeep {
		b.got = scalar(next()) == "t"
	}
	var fault error
	header := false
	if rr := next(); rr != nil {
		for rr.NextRow() {
			v := rr.Values()
			switch {
			case fault != nil:
			case v[0] == nil:
				header = true
				fault = b.readHeader(string(v[3]))
			case b.more: // read on, to have the connection ready again
			case len(b.rows) > 0 && len(b.arena)+len(v[3]) > s.l.tune.chunkBytes:
				b.more = true
			default:
				fault = b.appendRow(v)
			}
		}
		_, _ = rr.Close() // its error is that of res
	}
	if err := res.Close(); err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	if !header {
		return errNoHeader
	}
	if fault != nil {
		return fault
	}
	if len(b.rows) >= limit {
		b.more = true
	}
	if short && b.more {
		b.rows, b.cut = b.rows[:0], true
		return nil
	}
	if !slices.IsSortedFunc(b.rows, byXID) {
		slices.SortStableFunc(b.rows, byXID)
	}
	for i, r := range b.rows {
		if (i == 0 || r.xid != b.rows[i-1].xid) && !s.isCanary(r) {
			b.transactions++
		}
	}
	return nil
}

func bigint(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// queueing returns how many writers wait to notify.
func (s *session) queueing(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.l.patience())
	defer cancel()
	res := s.pg.ExecStatement(ctx, s.stmt.waiting, nil, nil, textFormats).Read()
	if res.Err == nil {
		n, res.Err = strconv.Atoi(string(res.Rows[0][0]))
	}
	if res.Err != nil {
		return 0, fmt.Errorf("look for writers that queue to notify: %w", res.Err)
	}
	return n, nil
}

// scalar returns the one value of a result, "" if there is none.
func scalar(rr *pgconn.ResultReader) (v string) {
	if rr == nil {
		return ""
	}
	if rr.NextRow() {
		v = string(rr.Values()[0])
	}
	_, _ = rr.Close() // its error is that of the batch
	return v
}

func byXID(a, b row) int {
	switch {
	case a.xid < b.xid:
		return -1
	case a.xid > b.xid:
		return 1
	}
	return 0
}

func (b *batch) readHeader(text string) (err error) {
	parts := strings.Split(strings.Trim(text, `"`), " ")
	if len(parts) != 4 {
		return errNoHeader // also if one of the objects is gone
	}
	b.overflow, b.files, b.position = parts[1] != "0", parts[2], parts[3]
	b.snap, err = parseSnapshot(parts[0])
	return err
}

func xidArray(xids []uint64) []byte {
	b := []byte{'{'}
	for i, x := range xids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, x, 10)
	}
	return append(b, '}')
}

// pages reads what transaction xid wrote into pages [from, to) of a table, and
// returns the tables' current files. It stops at the limit of bytes, setting
// more, unless there is only one page.
func (s *session) pages(ctx context.Context, b *batch, table int, from, to uint32, xid uint64) (files string, err error) {
	b.reset()
	var q pgconn.Batch
	q.ExecStatement(s.stmt.page[table], [][]byte{tid(from), tid(to), bigint(xid)}, pageFormats, rowFormats)
	q.ExecStatement(s.stmt.filenode, nil, nil, textFormats)
	res := s.pg.ExecBatch(ctx, &q)
	var fault error
	if res.NextResult() {
		rr := res.ResultReader()
		for rr.NextRow() {
			switch {
			case fault != nil || b.more:
			case len(b.arena) > s.l.tune.chunkBytes && to-from > 1:
				b.more = true
			default:
				fault = b.appendRow(rr.Values())
			}
		}
		_, _ = rr.Close()
	}
	if res.NextResult() {
		files = scalar(res.ResultReader())
	}
	if err := res.Close(); err != nil {
		return "", fmt.Errorf("read the outbox: %w", err)
	}
	return files, fault
}

func tid(page uint32) []byte { return fmt.Appendf(nil, "(%d,0)", page) }

// patience is how long a statement that should be fast may take. A server that
// is merely slow must not be dropped again and again, so it grows with each
// failure.
func (l *Listener) patience() time.Duration {
	return l.tune.timeout << min(l.timeouts.Load(), 4)
}
