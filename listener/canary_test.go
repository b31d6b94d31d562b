package listener

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// keeper is a recorder that sends canaries, numbered, and remembers what had
// been flushed when each arrived.
type keeper struct {
	*recorder
	mu     sync.Mutex
	n      int
	notes  []string
	fail   error
	onSend func(note string)
	onBack func(note string)
}

func (k *keeper) Canary(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.n++
	note := fmt.Sprint("n", k.n)
	if k.onSend != nil {
		k.onSend(note)
	}
	return note, k.fail
}

func (k *keeper) Arrived(_ context.Context, note string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notes = append(k.notes, note)
	if k.onBack != nil {
		k.onBack(note)
	}
	return nil
}

func (k *keeper) arrived() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.notes)
}

func (k *keeper) setFailure(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

func every(d time.Duration) func(*Listener) { return func(l *Listener) { l.cfg.Canary = d } }

func TestCanariesComeBack(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	k := &keeper{recorder: newRecorder()}
	l := start(t, url, k, every(20*time.Millisecond))
	leads(t, l)
	eventually(t, func() bool { return len(k.arrived()) >= 10 }, "canaries arrive")
	require.Equal(t, []string{"n1", "n2", "n3"}, k.arrived()[:3])
	require.Zero(t, k.changes, "they are no changes")
	require.Zero(t, l.Stats().Changes)
	require.Zero(t, l.Stats().Bells, "they do not wake anybody")
	eventually(t, func() bool { return l.Stats().State == StateAsleep }, "nor keep it awake")
	db := connect(t, url)
	exec(t, db, `SELECT icache.record('icache.meta'::regclass, 'I', '["of somebody else"]')`)
	eventually(t, func() bool { return slices.Contains(k.arrived(), "of somebody else") }, "those of others arrive too")
	k.setFailure(errHandler)
	n := len(k.arrived())
	time.Sleep(100 * time.Millisecond)
	require.LessOrEqual(t, len(k.arrived()), n+1, "none without a note")
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return k.count("a") == 1 }, "trouble with canaries holds up no change")
	k.setFailure(nil)
	eventually(t, func() bool { return len(k.arrived()) > n+1 }, "they fly again")
	l.stop()
}

// Everything that was committed before a canary was sent has been flushed when
// it comes back: with writers of all kinds, in small pieces, behind a backlog.
func TestACanaryProvesWhatWasCommittedBefore(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	w := &workload{shape: shape{long: true}, committed: map[string]time.Time{}}
	k := &keeper{recorder: newRecorder()}
	before := map[string][]string{} // by note, what had been committed
	proofs, missing := 0, ""
	told := map[string]bool{}
	k.onSend = func(note string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		var fresh []string
		for key := range w.committed {
			if !told[key] {
				told[key] = true
				fresh = append(fresh, key)
			}
		}
		before[note] = fresh
	}
	k.onBack = func(note string) {
		for _, key := range before[note] {
			if proofs++; k.count(key) == 0 {
				missing = key + " was committed before canary " + note
			}
		}
	}
	l := start(t, url, k, every(10*time.Millisecond), func(l *Listener) { l.hooks.limit = func() int { return 5 } })
	leads(t, l)
	var wg sync.WaitGroup
	end := time.Now().Add(3 * time.Second)
	for i := range 4 {
		conn := connect(t, url)
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				if err := w.transaction(conn, fmt.Sprintf("w%d-%d", i, n), i == 0); err != nil {
					t.Errorf("a writer failed: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	w.check(t, k.recorder)
	l.stop()
	require.Empty(t, missing)
	require.Greater(t, proofs, 100)
}

// Without proof no canary arrives: while the handler fails, and while changes
// are known to have gone unrecorded.
func TestNoCanaryArrivesWithoutProof(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	k := &keeper{recorder: newRecorder()}
	l := start(t, url, k, quickRotation, every(10*time.Millisecond))
	leads(t, l)
	eventually(t, func() bool { return len(k.arrived()) > 1 }, "canaries arrive")
	db, open := connect(t, url), connect(t, url)
	k.recorder.setFailure(errHandler)
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return l.Stats().HandlerErrors > 0 }, "the handler fails")
	n := len(k.arrived())
	time.Sleep(100 * time.Millisecond)
	require.Len(t, k.arrived(), n)
	k.recorder.setFailure(nil)
	eventually(t, func() bool { return len(k.arrived()) > n }, "they arrive again")

	exec(t, open, "BEGIN; SELECT pg_current_xact_id()")
	exec(t, db, "SELECT setval('icache.overflow', 1)")
	eventually(t, func() bool { return l.Stats().ResetPending }, "a transaction from before is open")
	n = len(k.arrived())
	time.Sleep(100 * time.Millisecond)
	require.Len(t, k.arrived(), n)
	exec(t, open, "COMMIT")
	eventually(t, func() bool { return len(k.arrived()) > n }, "they arrive again")
	l.stop()
}

// Nor while triggers are missing, as in the midst of a restore: the rows that it
// loads go unrecorded.
func TestNoCanaryArrivesWithoutTriggers(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	exec(t, db, "DROP TRIGGER captured ON events")
	k := &keeper{recorder: newRecorder()}
	l := start(t, url, k, every(10*time.Millisecond), func(l *Listener) { l.tune.rules = 20 * time.Millisecond })
	leads(t, l)
	exec(t, db, `SELECT icache.record('events'::regclass, 'I', '[{"k": "a"}]')`)
	eventually(t, func() bool { return k.count("a") == 1 }, "changes arrive")
	time.Sleep(100 * time.Millisecond)
	require.Empty(t, k.arrived())
	exec(t, db, "CREATE TRIGGER captured AFTER INSERT ON events REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION icache.captured()")
	eventually(t, func() bool { return len(k.arrived()) > 1 }, "they arrive")
	require.Len(t, k.resetReasons(), 2, "only after everything was reset once more")
	l.stop()
}
