package listener

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	rec := newRecorder()
	first := start(t, url, rec)
	leads(t, first)
	second := start(t, url, rec, func(l *Listener) { l.tune.leaderPoll = 20 * time.Millisecond })
	eventually(t, func() bool { return second.Stats().State == StateStandby }, "the second stands by")
	for range 20 {
		require.Zero(t, query[int](t, db, `SELECT count(*) FROM pg_stat_activity
 WHERE application_name = 'icache-agent' AND datname = current_database() AND backend_xmin IS NOT NULL AND state <> 'active'`),
			"a standby does not hold back vacuum")
		time.Sleep(5 * time.Millisecond)
	}
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return rec.count("a") == 1 }, "the change arrives")
	eventually(t, func() bool {
		return query[int](t, db, "SELECT count(*) FROM icache.cursor") == 1 && !first.Stats().CursorSaved.IsZero()
	}, "the cursor is saved")

	// Graceful: at once, nothing twice, nothing reset.
	began := time.Now()
	first.stop()
	leads(t, second)
	t.Logf("took over %s after the other began to stop", time.Since(began))
	exec(t, db, "INSERT INTO events VALUES ('b')")
	eventually(t, func() bool { return rec.count("b") == 1 }, "the change arrives")
	require.Zero(t, rec.duplicates())
	require.Len(t, rec.resetReasons(), 1)

	// By force.
	third := start(t, url, rec, func(l *Listener) { l.tune.leaderPoll = 5 * time.Millisecond })
	eventually(t, func() bool { return third.Stats().State == StateStandby }, "the third stands by")
	exec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	exec(t, db, "INSERT INTO events VALUES ('c')")
	eventually(t, func() bool { return rec.count("c") >= 1 }, "the change arrives")
	eventually(t, func() bool { return third.Stats().Leader != second.Stats().Leader }, "one of them leads")
	require.Len(t, rec.resetReasons(), 1)
	second.stop()
	third.stop()
}

// The server ends the session of a leader that was stopped, and with it the lock.
func TestStoppedLeaderLosesItsLock(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	rec := newRecorder()
	stuck, resume := make(chan struct{}), make(chan struct{})
	first := start(t, url, rec, func(l *Listener) {
		l.tune.idleSession = time.Second
		l.hooks.read = func(b *batch) {
			if len(b.rows) > 0 {
				close(stuck)
				<-resume
				l.hooks.read = nil
			}
		}
	})
	leads(t, first)
	exec(t, db, "INSERT INTO events VALUES ('a')")
	<-stuck
	second := start(t, url, rec)
	eventually(t, func() bool { return rec.count("a") == 1 && second.Stats().Leader }, "the other takes over")
	close(resume)
	eventually(t, func() bool { return first.Stats().State == StateStandby }, "the first finds out")
	require.LessOrEqual(t, rec.count("a"), 2)
	first.stop()
	second.stop()
}
