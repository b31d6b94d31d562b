package listener

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

const outboxRows = "SELECT (SELECT count(*) FROM icache.outbox_0) + (SELECT count(*) FROM icache.outbox_1)"

func TestRotationGivesWayToReaders(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db, dump := connect(t, url), connect(t, url)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	exec(t, dump, "BEGIN; LOCK TABLE icache.outbox_0, icache.outbox_1 IN ACCESS SHARE MODE") // as pg_dump does
	exec(t, db, "SET lock_timeout = '2s'")
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return !l.Stats().RotationBlocked.IsZero() }, "the rotation is blocked")
	for _, k := range []string{"b", "c", "d"} {
		exec(t, db, "INSERT INTO events VALUES ($1)", k)
		eventually(t, func() bool { return rec.count(k) == 1 }, "changes arrive all the same")
	}
	require.Equal(t, 4, query[int](t, db, outboxRows))
	exec(t, dump, "COMMIT")
	eventually(t, func() bool { return query[int](t, db, outboxRows) == 0 }, "the outbox is emptied at last")
	require.True(t, l.Stats().RotationBlocked.IsZero())
	require.Zero(t, rec.duplicates())
	l.stop()
}

func TestRotationWaitsForWriters(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db, long := connect(t, url), connect(t, url)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	exec(t, long, "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO events VALUES ('long')")
	first := query[int](t, db, "SELECT last_value FROM icache.active")
	for i := range 20 {
		exec(t, db, "INSERT INTO events VALUES ($1)", string(rune('a'+i)))
		time.Sleep(20 * time.Millisecond)
	}
	eventually(t, func() bool { return query[int](t, db, "SELECT last_value FROM icache.active") != first }, "writers use the other table")
	eventually(t, func() bool { return !l.Stats().RotationBlocked.IsZero() }, "the table cannot be emptied")
	exec(t, long, "INSERT INTO events VALUES ('long, later')") // now into the other table, in spite of its snapshot
	exec(t, long, "COMMIT")
	eventually(t, func() bool { return rec.count("long") == 1 && rec.count("long, later") == 1 }, "the late changes arrive")
	eventually(t, func() bool { return query[int](t, db, outboxRows) == 0 }, "the outbox is emptied")
	require.Equal(t, 22, rec.distinct())
	require.Zero(t, rec.duplicates())
	l.stop()
}

func TestUnreadRowsAreNotTruncated(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	rec.setFailure(errHandler)
	exec(t, db, "INSERT INTO events VALUES ('a')")
	exec(t, db, "SELECT setval('icache.active', 1)")
	eventually(t, func() bool { return l.Stats().State == StateBlocked }, "the handler fails")
	sql := truncateSQL(l.names, 0, l.cursor(t), epoch{files: "1,2"})
	_, err := db.Exec(t.Context(), sql)
	require.Equal(t, stateUnread, sqlState(err), "got %v", err)
	require.Equal(t, 1, query[int](t, db, outboxRows))
	rec.setFailure(nil)
	eventually(t, func() bool { return query[int](t, db, outboxRows) == 0 }, "the outbox is emptied")
	require.Equal(t, 1, rec.count("a"))
	l.stop()
}

func TestAnIdleOutboxIsLeftAlone(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	rec := newRecorder()
	l := start(t, url, rec, func(l *Listener) { l.tune.maintain = 20 * time.Millisecond; l.tune.rotateAge = 20 * time.Millisecond })
	leads(t, l)
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return l.Stats().Rotations == 1 }, "the outbox is emptied")
	require.Zero(t, query[int](t, db, outboxRows))
	eventually(t, func() bool { return query[string](t, db, "SELECT snap::text FROM icache.cursor") == l.Stats().Cursor }, "the cursor is saved")
	time.Sleep(50 * time.Millisecond)
	active, saved := query[int](t, db, "SELECT last_value FROM icache.active"), l.Stats().CursorSaved
	time.Sleep(500 * time.Millisecond)
	require.Equal(t, uint64(1), l.Stats().Rotations)
	require.Equal(t, active, query[int](t, db, "SELECT last_value FROM icache.active"))
	require.Equal(t, saved, l.Stats().CursorSaved, "nor is the cursor saved again")
	l.stop()
}

func TestRotationDue(t *testing.T) {
	t.Parallel()
	tune, now := defaultTuning(), time.Unix(1000, 0)
	r := newRotation(now)
	require.False(t, r.due(now.Add(time.Hour), 0, tune), "empty")
	r = newRotation(now)
	require.False(t, r.due(now, 8192, tune), "young, small and in use")
	require.True(t, r.due(now, tune.rotateBytes, tune), "large")
	require.True(t, r.due(now.Add(tune.rotateAge), 8192, tune), "old")

	// A change every two seconds would have it rotate every two seconds.
	r, n := newRotation(now), 0
	for i := range 600 {
		now = now.Add(time.Second)
		if i%2 == 0 {
			r.changed(now)
		}
		r.flipped = now // young
		if r.due(now, 8192, tune) {
			n++
		}
	}
	require.LessOrEqual(t, n, 3+600/30)
	require.GreaterOrEqual(t, n, 600/30)
}

// A rotation that has to wait for somebody who locks the cursor table must not
// hold the outbox meanwhile: writers look at the size of both tables.
func TestRotationWaitsForNobody(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	db, other := connect(t, url), connect(t, url)
	exec(t, other, "BEGIN; LOCK TABLE icache.cursor IN ACCESS EXCLUSIVE MODE")
	exec(t, db, "SET lock_timeout = '1s'")
	exec(t, db, "INSERT INTO events VALUES ('a')")
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		exec(t, db, "SELECT pg_total_relation_size('icache.outbox_0') + pg_total_relation_size('icache.outbox_1')")
	}
	exec(t, other, "ROLLBACK")
	l.stop()
}

// A snapshot that is held open elsewhere keeps vacuum from removing dead rows.
// There are none in the outbox: its tables are emptied all the same, so what a
// poll reads does not grow with what has passed.
func TestASnapshotHeldElsewhere(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db, report := connect(t, url), connect(t, url)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	exec(t, report, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM events")
	for i := range 5 {
		before := l.Stats().Rotations
		exec(t, db, "DO $$ BEGIN FOR n IN 1..1000 LOOP INSERT INTO events VALUES ('"+string(rune('a'+i))+"' || n); COMMIT; END LOOP; END $$")
		eventually(t, func() bool { return rec.distinct() == 1000*(i+1) }, "the changes arrive")
		eventually(t, func() bool { return l.Stats().Rotations > before && query[int](t, db, outboxRows) == 0 }, "the outbox is emptied")
	}
	require.Equal(t, 1, query[int](t, db, `SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xmin IS NOT NULL`), "the snapshot is still held")
	eventually(t, func() bool {
		return query[int](t, db, "SELECT pg_relation_size('icache.outbox_0') + pg_relation_size('icache.outbox_1')") == 0
	}, "no dead rows are left to read over")
	require.Zero(t, rec.duplicates())
	l.stop()
	exec(t, report, "COMMIT")
}
