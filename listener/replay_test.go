package listener

import (
	"bytes"
	"fmt"
	osexec "os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// afterReset fails the test if a change is applied before the first reset.
func afterReset(t *testing.T) *recorder {
	rec := newRecorder()
	rec.onApply = func(Change) {
		if len(rec.resetReasons()) == 0 {
			t.Error("a change was applied before the reset")
		}
	}
	return rec
}

func TestFirstStartAppliesWhatIsThere(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db, other := connect(t, url), connect(t, url)
	exec(t, other, "BEGIN; INSERT INTO events VALUES ('open')")
	for i := range 200 {
		exec(t, db, fmt.Sprintf("INSERT INTO events VALUES ('a%d'); SELECT setval('icache.active', %d)", i, i/50%2))
	}
	exec(t, db, "INSERT INTO events SELECT 'b' || g FROM generate_series(1, 100) g")
	rec := afterReset(t)
	l := start(t, url, rec, func(l *Listener) { l.hooks.limit = func() int { return 7 } })
	eventually(t, func() bool { return rec.distinct() == 300 }, "what was written before the first start is applied")
	exec(t, other, "COMMIT")
	exec(t, db, "INSERT INTO events VALUES ('after')")
	eventually(t, func() bool { return rec.count("open") == 1 && rec.count("after") == 1 }, "and what comes after")
	require.Zero(t, rec.duplicates())
	require.Len(t, rec.resetReasons(), 1)
	l.stop()
}

func TestCrashAppliesWhatIsThere(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	url := server.URL()
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec)
	leads(t, l)
	eventually(t, func() bool { return !l.Stats().CursorSaved.IsZero() }, "the cursor is saved")
	l.stop()
	exec(t, connect(t, url), "INSERT INTO events VALUES ('a')")
	require.NoError(t, server.StopImmediate())
	require.NoError(t, server.Start(t.Context()))
	rec = afterReset(t)
	l = start(t, url, rec)
	eventually(t, func() bool { return rec.count("a") == 1 }, "what was written while no listener ran is applied")
	exec(t, connect(t, url), "INSERT INTO events VALUES ('b')")
	eventually(t, func() bool { return rec.count("b") == 1 }, "and what comes after the crash")
	require.Zero(t, rec.duplicates())
	require.Len(t, rec.resetReasons(), 1)
	l.stop()
}

// Rows whose ids belong to an open transaction would be read with every poll,
// and in front of everything else.
func TestForeignRowsOfOpenTransactions(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db, open := connect(t, url), connect(t, url)
	exec(t, open, "BEGIN; INSERT INTO events VALUES ('open')")
	id := query[string](t, open, "SELECT pg_current_xact_id()::text")
	exec(t, db, `INSERT INTO icache.outbox_0 SELECT '`+id+`', 'events'::regclass, 'U', '[{"k": "foreign"}]' FROM generate_series(1, 500)`)
	exec(t, db, `INSERT INTO icache.outbox_1 SELECT '900000000000', 'events'::regclass, 'U', '[{"k": "foreign"}]' FROM generate_series(1, 500)`)
	exec(t, db, "INSERT INTO events VALUES ('before')")
	rec := afterReset(t)
	l := start(t, url, rec, quickRotation, func(l *Listener) { l.tune.chunkRows = 10 })
	eventually(t, func() bool { return rec.count("before") == 1 }, "what lies behind them is applied")
	exec(t, db, "INSERT INTO events VALUES ('own')")
	eventually(t, func() bool { return rec.count("own") == 1 }, "it goes on as ever")
	require.Zero(t, rec.count("foreign"))
	exec(t, open, "COMMIT")
	eventually(t, func() bool { return rec.count("open") == 1 }, "the transaction of this cluster is not taken for theirs")
	eventually(t, func() bool { return query[int](t, db, outboxRows) == 0 }, "the tables are emptied")
	require.Len(t, rec.resetReasons(), 1)
	l.stop()
}

// A dump brings along outbox rows and a cursor, all of another cluster.
func TestRestoredDump(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	install(t, server.URL())
	old := connect(t, server.URL())
	l := start(t, server.URL(), newRecorder())
	leads(t, l)
	eventually(t, func() bool { return !l.Stats().CursorSaved.IsZero() }, "the cursor is saved")
	l.stop()
	exec(t, old, "INSERT INTO events VALUES ('past')")
	exec(t, old, "SET synchronous_commit = off")
	exec(t, old, "DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
	exec(t, old, "INSERT INTO events VALUES ('future')")

	fresh := servertest.OwnPostgres(t)
	db := connect(t, fresh.URL())
	exec(t, db, "DO $$ BEGIN FOR i IN 1..1000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$") // past is past here too
	dump, err := osexec.Command(filepath.Join(server.BinDir(), "pg_dump"), "--dbname", server.URL()).Output()
	require.NoError(t, err)
	restore := osexec.Command(filepath.Join(server.BinDir(), "psql"), "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "--dbname", fresh.URL())
	restore.Stdin = bytes.NewReader(dump)
	out, err := restore.CombinedOutput()
	require.NoError(t, err, "%s", out)

	require.Equal(t, 1, query[int](t, db, "SELECT count(*) FROM icache.cursor"))
	require.Equal(t, 2, query[int](t, db, outboxRows))
	rec := afterReset(t)
	l = start(t, fresh.URL(), rec, quickRotation)
	leads(t, l)
	exec(t, db, "INSERT INTO events VALUES ('own')")
	eventually(t, func() bool { return rec.count("own") == 1 && l.Stats().State == StateAsleep }, "it goes on as ever")
	eventually(t, func() bool { return query[int](t, db, outboxRows) == 0 }, "the tables are emptied")
	require.Zero(t, rec.count("future"))
	require.Len(t, rec.resetReasons(), 1)
	require.Contains(t, rec.resetReasons()[0], "another database cluster")
	l.stop()
}
