package listener

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// shape says what kinds of transactions there are.
type shape struct {
	long    bool // one writer's take a third of a second
	prepare bool // some are prepared first
}

// workload writes for a while with transactions of many lengths and shapes, and
// remembers what it committed.
type workload struct {
	shape
	mu        sync.Mutex
	committed map[string]time.Time
	undone    []string
}

func (w *workload) commit(keys ...string) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		w.committed[k] = now
	}
}

func (w *workload) rollback(keys ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.undone = append(w.undone, keys...)
}

func runWorkload(t *testing.T, url string, writers int, d time.Duration, s shape) *workload {
	t.Helper()
	w := &workload{shape: s, committed: map[string]time.Time{}}
	end := time.Now().Add(d)
	var wg sync.WaitGroup
	for i := range writers {
		conn := connect(t, url)
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				if err := w.transaction(conn, fmt.Sprintf("w%d-%d", i, n), s.long && i == 0); err != nil {
					t.Errorf("a writer failed: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	return w
}

func (w *workload) transaction(conn *pgx.Conn, key string, long bool) error {
	ctx := context.Background()
	insert := func(k string) string { return "INSERT INTO events VALUES ('" + k + "')" }
	run := func(sql string) error {
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	pause := func() {
		d := time.Duration(rand.IntN(8)) * time.Millisecond
		if long {
			d *= 40
		}
		time.Sleep(d)
	}
	a, b, c := key+"a", key+"b", key+"c"
	kind := rand.IntN(10)
	if err := run("BEGIN; " + insert(a)); err != nil {
		return err
	}
	pause()
	if err := run("SAVEPOINT s; " + insert(b)); err != nil {
		return err
	}
	keys := []string{a, c}
	if rand.IntN(2) == 0 {
		w.rollback(b)
		if err := run("ROLLBACK TO s"); err != nil {
			return err
		}
	} else {
		keys = append(keys, b)
	}
	pause()
	switch {
	case kind == 0:
		w.rollback(append(keys, b)...)
		return run(insert(c) + "; ROLLBACK")
	case kind < 4 && w.prepare:
		if err := run(insert(c) + "; PREPARE TRANSACTION '" + key + "'"); err != nil {
			return err
		}
		pause()
		if err := run("COMMIT PREPARED '" + key + "'"); err != nil {
			return err
		}
	default:
		if err := run(insert(c) + "; COMMIT"); err != nil {
			return err
		}
	}
	w.commit(keys...)
	return nil
}

// check waits until everything arrived, and that nothing else did.
func (w *workload) check(t *testing.T, rec *recorder) {
	t.Helper()
	var example string
	lost := func() (n int) {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		for k := range w.committed {
			if rec.seen[k] == 0 {
				n++
				example = k
			}
		}
		return n
	}
	for end := time.Now().Add(10 * time.Second); lost() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	require.Zero(t, lost(), "of %d committed changes, such as %s", len(w.committed), example)
	for _, k := range w.undone {
		require.Zero(t, rec.count(k), "%s was rolled back", k)
	}
}

// quickRotation rotates as often as it can.
func quickRotation(l *Listener) {
	l.tune.maintain = 50 * time.Millisecond
	l.tune.rotateAge = 100 * time.Millisecond
}

func TestNothingIsLostWhateverTheOrderOfCommits(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t, "max_prepared_transactions=40")
	url := server.URL()
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec, quickRotation, func(l *Listener) { l.tune.chunkRows = 7 })
	leads(t, l)
	require.Equal(t, WakePoll, l.Stats().Wake, "where transactions can be prepared, it polls")
	w := runWorkload(t, url, 12, 4*time.Second, shape{long: true, prepare: true})
	w.check(t, rec)
	require.Zero(t, rec.duplicates())
	s := l.Stats()
	require.Zero(t, s.Bells)
	t.Logf("%d committed, %d undone, %d polls, %d rotations", len(w.committed), len(w.undone), s.Polls, s.Rotations)
	require.Greater(t, s.Rotations, uint64(3))
}

// Without sweeps a lost wake-up is a change that never arrives.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec, func(l *Listener) {
		l.tune.sweep = false
		l.tune.maintain = time.Hour
		l.tune.save = time.Hour
		l.tune.bell.idle = 2 * time.Millisecond
		l.tune.bell.awakeRate = 40 // goes back and forth all the time
	})
	leads(t, l)
	total := 0
	db := connect(t, url)
	enough := func() bool { s := l.Stats(); return s.Sleeps > 30 && s.Wakes > 30 }
	for end := time.Now().Add(patience); !enough() && time.Now().Before(end); {
		w := runWorkload(t, url, 3, 300*time.Millisecond, shape{})
		w.check(t, rec)
		rec.mu.Lock()
		for k, at := range w.committed {
			require.Less(t, rec.at[k].Sub(at), 5*time.Second, "%s came late", k)
		}
		clear(rec.seen)
		rec.mu.Unlock()
		total += len(w.committed)
		exec(t, db, "TRUNCATE events")
	}
	s := l.Stats()
	t.Logf("%d committed, %d polls, %d bells, asleep %d times, woken %d times", total, s.Polls, s.Bells, s.Sleeps, s.Wakes)
	require.True(t, enough(), "it went back and forth too rarely to prove anything")
}
