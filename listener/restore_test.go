package listener

import (
	"context"
	osexec "os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// dumped is a server with a listener, and a dump of its database that is older.
type dumped struct {
	*localserver.Postgres
	t    *testing.T
	db   *pgx.Conn
	file string
	rec  *recorder
	l    *running
	// whole says that at the last reset all rows of the dump, and the triggers,
	// were there.
	whole atomic.Bool
}

const dumpedRows = 100

func newDumped(t *testing.T) *dumped {
	t.Helper()
	d := &dumped{Postgres: servertest.OwnPostgres(t), t: t, rec: newRecorder(), file: filepath.Join(t.TempDir(), "dump")}
	if _, err := osexec.LookPath(filepath.Join(d.BinDir(), "pg_restore")); err != nil {
		t.Skip("these binaries of Postgres come without pg_restore")
	}
	install(t, d.URL())
	d.db = connect(t, d.URL())
	exec(t, d.db, "INSERT INTO events SELECT 'dumped' || g FROM generate_series(1, 100) g")
	d.l = start(t, d.URL(), d, func(l *Listener) { l.tune.rules = 20 * time.Millisecond })
	leads(t, d.l)
	eventually(t, func() bool { return !d.l.Stats().CursorSaved.IsZero() }, "the cursor is saved")
	d.run("pg_dump", "--format", "custom", "--file", d.file)
	exec(t, d.db, "INSERT INTO events VALUES ('later')")
	eventually(t, func() bool { return d.rec.count("later") == 1 }, "changes arrive")
	d.whole.Store(false)
	return d
}

func (d *dumped) Apply(ctx context.Context, c Change) error { return d.rec.Apply(ctx, c) }
func (d *dumped) Flush(ctx context.Context) error           { return d.rec.Flush(ctx) }

func (d *dumped) Reset(ctx context.Context, reason string) error {
	conn, err := pgx.Connect(ctx, d.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var triggers, rows int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_trigger WHERE tgname = 'captured'").Scan(&triggers); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM events").Scan(&rows); err != nil {
		return err
	}
	d.whole.Store(triggers == 1 && rows == dumpedRows)
	return d.rec.Reset(ctx, reason)
}

func (d *dumped) run(program string, args ...string) {
	d.t.Helper()
	out, err := osexec.Command(filepath.Join(d.BinDir(), program), append(args, "--dbname", d.URL())...).CombinedOutput()
	require.NoError(d.t, err, "%s", out)
}

// goesOn proves that the listener has noticed what happened and works.
func (d *dumped) goesOn() {
	d.t.Helper()
	eventually(d.t, d.whole.Load, "everything is reset after the last row was restored")
	exec(d.t, d.db, "INSERT INTO events VALUES ('after')")
	eventually(d.t, func() bool { return d.rec.count("after") == 1 }, "it goes on as ever")
	eventually(d.t, func() bool { return query[int](d.t, d.db, "SELECT count(*) FROM icache.cursor") == 1 }, "the cursor is saved again")
	resets := len(d.rec.resetReasons())
	time.Sleep(100 * time.Millisecond) // some polls, and looks for the triggers
	require.Len(d.t, d.rec.resetReasons(), resets, "that is all")
	d.l.stop()
}

func TestRestoreOverALivingDatabase(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"step by step":       {"--clean", "--if-exists"},
		"in one transaction": {"--clean", "--if-exists", "--single-transaction"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDumped(t)
			d.run("pg_restore", append(args, d.file)...)
			d.goesOn()
		})
	}
}

// The listener finds icache's own objects in order while the rows of others are
// still being loaded, without triggers.
func TestRestoreThatTakesLong(t *testing.T) {
	t.Parallel()
	d := newDumped(t)
	exec(t, d.db, "DROP TABLE events; DROP SCHEMA icache CASCADE")
	connects := d.l.Stats().Connects
	eventually(t, func() bool { return d.l.Stats().Connects > connects+1 }, "it waits for the objects")
	d.run("pg_restore", "--section", "pre-data", d.file)
	d.run("pg_restore", "--section", "data", "--schema", "icache", d.file)
	eventually(t, func() bool { return len(d.rec.resetReasons()) > 1 }, "the gap is noticed")
	d.run("pg_restore", "--section", "data", "--schema", "public", d.file)
	require.False(t, d.whole.Load())
	d.run("pg_restore", "--section", "post-data", d.file)
	d.goesOn()
}

// Only the rows of icache's own tables come back: another cursor, of the same
// cluster and the same table.
func TestRestoredRows(t *testing.T) {
	t.Parallel()
	d := newDumped(t)
	exec(t, d.db, "DELETE FROM events WHERE k = 'later'")
	exec(t, d.db, "BEGIN; CREATE TABLE old AS TABLE icache.cursor; TRUNCATE icache.cursor; INSERT INTO icache.cursor TABLE old; COMMIT")
	eventually(t, func() bool { return len(d.rec.resetReasons()) == 2 }, "the gap is noticed")
	require.Contains(t, d.rec.resetReasons()[1], "cursor table was replaced")
	d.goesOn()
}

// After loading a dump of the schema alone, such as a structure.sql, the
// sequences were never set.
func TestSequencesThatWereNeverSet(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	exec(t, db, "ALTER SEQUENCE icache.active RESTART; ALTER SEQUENCE icache.overflow RESTART")
	require.True(t, query[bool](t, db, "SELECT pg_sequence_last_value('icache.overflow') IS NULL"))
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return rec.count("a") == 1 }, "changes arrive")
	l.stop()
}
