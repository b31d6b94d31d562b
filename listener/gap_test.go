package listener

import (
	"fmt"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestGapBetween(t *testing.T) {
	t.Parallel()
	now := epoch{system: 1, timeline: "00000001/5/7", started: time.Unix(2, 0), unlogged: true, now: snapshot{xmax: 100}}
	saved := position{system: 1, timeline: "00000001/5/7", started: time.Unix(1, 0), cursor: snapshot{xmax: 90}}
	require.Empty(t, gapBetween(&saved, now, snapshot{xmax: 95}))
	for name, c := range map[string]struct {
		change func(*position, *epoch, *snapshot)
		want   string
	}{
		"other cluster":   {func(p *position, _ *epoch, _ *snapshot) { p.system = 2 }, "another database cluster"},
		"other timeline":  {func(p *position, _ *epoch, _ *snapshot) { p.timeline = "00000002/5/7" }, "another timeline"},
		"restored table":  {func(p *position, _ *epoch, _ *snapshot) { p.timeline = "00000001/5/8" }, "another timeline or database"},
		"ids went back":   {func(p *position, _ *epoch, _ *snapshot) { p.cursor.xmax = 101 }, "went back"},
		"ids went back 2": {func(_ *position, _ *epoch, seen *snapshot) { seen.xmax = 101 }, "went back"},
		"logged":          {func(_ *position, e *epoch, _ *snapshot) { e.unlogged = false }, "not unlogged"},
	} {
		p, e, seen := saved, now, snapshot{}
		c.change(&p, &e, &seen)
		require.Contains(t, gapBetween(&p, e, seen), c.want, name)
	}
	require.Contains(t, gapBetween(nil, now, snapshot{}), "no cursor")
}

func TestRemovedCursorResets(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec)
	leads(t, l)
	db := connect(t, url)
	eventually(t, func() bool { return !l.Stats().CursorSaved.IsZero() }, "the cursor is saved")
	exec(t, db, "DELETE FROM icache.cursor")
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return len(rec.resetReasons()) == 2 }, "everything is reset")
	eventually(t, func() bool { return query[int](t, db, "SELECT count(*) FROM icache.cursor") == 1 }, "the cursor is saved again")
	l.stop()
}

// A reset that did not succeed is done by the next listener.
func TestResetIsNotForgotten(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	rec := newRecorder()
	rec.setFailure(errHandler)
	l := start(t, url, rec)
	eventually(t, func() bool { return l.Stats().HandlerErrors > 0 }, "the handler fails")
	l.stop()
	require.Empty(t, rec.resetReasons())
	rec.setFailure(nil)
	l = start(t, url, rec)
	leads(t, l)
	require.Len(t, rec.resetReasons(), 1)
	l.stop()
}

func TestOverflow(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	installLimit(t, url, 300_000)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	leads(t, l)
	eventually(t, func() bool { return !l.Stats().CursorSaved.IsZero() }, "the cursor is saved")
	l.stop()

	db, open := connect(t, url), connect(t, url)
	exec(t, open, "BEGIN; SELECT pg_current_xact_id()")
	overflowed := func() bool { return query[int](t, db, "SELECT last_value FROM icache.overflow") == 1 }
	for i := 0; !overflowed(); i++ {
		exec(t, db, fmt.Sprintf("INSERT INTO events SELECT '%d-' || g || repeat('x', 100) FROM generate_series(1, 100) g", i))
		require.Less(t, i, 5000)
	}
	size := query[int](t, db, "SELECT pg_total_relation_size('icache.outbox_0')")
	exec(t, open, "INSERT INTO events VALUES ('unrecorded')")
	exec(t, db, "INSERT INTO events SELECT 'more' || g FROM generate_series(1, 1000) g")
	require.Equal(t, size, query[int](t, db, "SELECT pg_total_relation_size('icache.outbox_0')"), "nothing more is recorded")

	l = start(t, url, rec, quickRotation)
	eventually(t, func() bool { return !overflowed() }, "the flag is cleared")
	eventually(t, func() bool { return l.Stats().ResetPending }, "an old transaction is still open")
	resets := len(rec.resetReasons())
	require.Equal(t, 3, resets, "first start, overflow, flag cleared: %q", rec.resetReasons())
	require.Zero(t, query[int](t, db, "SELECT count(*) FROM icache.cursor"), "a successor would have to start over")
	exec(t, db, "INSERT INTO events VALUES ('recorded')")
	eventually(t, func() bool { return rec.count("recorded") == 1 }, "changes are recorded again")
	time.Sleep(100 * time.Millisecond)
	require.Len(t, rec.resetReasons(), resets)

	exec(t, open, "COMMIT")
	eventually(t, func() bool { return len(rec.resetReasons()) == resets+1 }, "the unrecorded change is covered by one more reset")
	require.Zero(t, rec.count("unrecorded"))
	eventually(t, func() bool {
		return query[int](t, db, "SELECT count(*) FROM icache.cursor") == 1 && !l.Stats().ResetPending
	}, "the cursor is saved")
	l.stop()
}

// While the outbox cannot be emptied, everything is reset again and again.
func TestOverflowThatCannotBeCleared(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	installLimit(t, url, 400_000)
	db, dump := connect(t, url), connect(t, url)
	exec(t, db, "SELECT icache.record('events'::regclass, 'U', jsonb_build_array(repeat(md5(g::text), 9))) FROM generate_series(1, 2000) g")
	exec(t, db, "SELECT setval('icache.overflow', 1)")
	exec(t, dump, "BEGIN; LOCK TABLE icache.outbox_0 IN ACCESS SHARE MODE")
	rec := newRecorder()
	l := start(t, url, rec, quickRotation)
	eventually(t, func() bool { return len(rec.resetReasons()) >= 3 }, "everything is reset")
	require.Contains(t, strings.Join(rec.resetReasons(), "\n"), "cannot be emptied yet")
	require.True(t, l.Stats().Overflow)
	exec(t, dump, "COMMIT")
	eventually(t, func() bool { return !l.Stats().Overflow }, "the flag is cleared")
	exec(t, db, "INSERT INTO events VALUES ('recorded')")
	eventually(t, func() bool { return rec.count("recorded") == 1 }, "changes are recorded again")
	l.stop()
}

func TestTransactionIDsBeyond32Bits(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs the owner of the server's files")
	}
	server := servertest.OwnPostgres(t)
	url := server.URL()
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec)
	leads(t, l)
	exec(t, connect(t, url), "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return rec.count("a") == 1 }, "the change arrives")
	require.NoError(t, server.Stop())
	info, err := os.Stat(server.DataDir())
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	reset := osexec.Command(filepath.Join(server.BinDir(), "pg_resetwal"), "-e", "3", "-D", server.DataDir())
	reset.Dir = server.DataDir()
	if os.Geteuid() == 0 {
		reset.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	out, err := reset.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, server.Start(t.Context()))
	db := connect(t, url)
	require.Greater(t, query[int64](t, db, "SELECT pg_current_xact_id()::text::bigint"), int64(3<<32))
	w := runWorkload(t, url, 3, time.Second, shape{long: true})
	w.check(t, rec)
	require.Len(t, rec.resetReasons(), 1)
	s, err := parseSnapshot(l.Stats().Cursor)
	require.NoError(t, err)
	require.Greater(t, s.xmax, uint64(3<<32))
	l.stop()
}

// After a failover the transaction ids are those of another history.
func TestPromotion(t *testing.T) {
	t.Parallel()
	primary := servertest.OwnPostgres(t)
	install(t, primary.URL())
	standby := servertest.OwnPostgresWith(t, localserver.PostgresConfig{StandbyOf: primary})
	both, err := url.Parse(primary.URL())
	require.NoError(t, err)
	both.Host = standby.Addr() + "," + primary.Addr() // the standby is tried first, and refused
	rec := newRecorder()
	l := start(t, both.String(), rec)
	leads(t, l)
	exec(t, connect(t, primary.URL()), "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return rec.count("a") == 1 }, "the change arrives")
	replica := connect(t, standby.URL())
	eventually(t, func() bool { return query[int](t, replica, "SELECT count(*) FROM events") == 1 }, "it is replicated")
	require.NoError(t, primary.Kill())
	eventually(t, func() bool { return l.Stats().State == StateConnecting }, "the listener lost its primary")
	require.NoError(t, standby.Promote(t.Context()))
	eventually(t, func() bool { return len(rec.resetReasons()) == 2 }, "what was lost nobody knows")
	exec(t, replica, "INSERT INTO events VALUES ('b')")
	eventually(t, func() bool { return rec.count("b") == 1 }, "the change arrives")
	l.stop()
}
