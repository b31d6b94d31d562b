package listener

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// What was in an outbox table that somebody else emptied nobody knows.
func TestOutboxTruncatedByHand(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	rotations := func() uint64 { return l.Stats().Rotations }
	for range 3 {
		before := rotations()
		exec(t, db, "INSERT INTO events VALUES (gen_random_uuid())")
		eventually(t, func() bool { return rotations() > before }, "the listener empties tables itself")
	}
	l.stop()
	l = start(t, url, rec, quickRotation)
	leads(t, l)
	require.Len(t, rec.resetReasons(), 1, "which does not count")

	exec(t, db, "TRUNCATE icache.outbox_1")
	eventually(t, func() bool { return len(rec.resetReasons()) == 2 }, "that of somebody else does")
	require.Equal(t, emptied, rec.resetReasons()[1])
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return rec.count("a") == 1 }, "it goes on")
	eventually(t, func() bool {
		return query[int](t, db, outboxRows) == 0 && query[int](t, db, "SELECT count(*) FROM icache.cursor") == 1
	}, "as ever")
	l.stop()

	exec(t, db, "INSERT INTO events VALUES ('lost')")
	exec(t, db, "TRUNCATE icache.outbox_0, icache.outbox_1")
	exec(t, db, "INSERT INTO events VALUES ('b')")
	l = start(t, url, rec)
	eventually(t, func() bool { return rec.count("b") == 1 }, "the change arrives")
	require.Len(t, rec.resetReasons(), 3)
	require.Equal(t, emptied, rec.resetReasons()[2])
	l.stop()
	l = start(t, url, rec)
	leads(t, l)
	require.Len(t, rec.resetReasons(), 3, "once is enough")
	l.stop()
}
