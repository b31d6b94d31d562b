package listener

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// Whatever was applied when: the checkpoint is one of before the change that has
// not settled, and not needlessly early.
func TestTrailIsBeforeWhatHasNotSettled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start := time.Now()
		trail := trail{}
		now, settledTo := start, start
		times := []time.Time{}
		resets := map[int]bool{}
		for i := range rapid.IntRange(1, 3000).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "ms")) * time.Millisecond)
			none := rapid.IntRange(0, 200).Draw(t, "none") == 0
			trail.add(checkpoint{now, snapshot{xmax: uint64(i)}, none})
			times = append(times, now)
			resets[i] = none
			if rapid.IntRange(0, 9).Draw(t, "save") > 0 {
				continue
			}
			// What was applied as checkpoint k was taken has not settled.
			k := rapid.IntRange(0, i).Draw(t, "k")
			if times[k].Before(settledTo) {
				continue
			}
			settledTo = times[k]
			c := trail.before(times[k])
			if c.cursor.xmax > uint64(k) && !c.at.Equal(times[k]) {
				t.Fatalf("cursor %d is beyond change %d", c.cursor.xmax, k)
			}
			if c.at.After(times[k]) {
				t.Fatalf("a checkpoint of later")
			}
			if len(trail) > trailMax {
				t.Fatalf("%d checkpoints", len(trail))
			}
		}
		for _, c := range trail {
			if c.none && !resets[int(c.cursor.xmax)] {
				t.Fatalf("a reset out of nothing")
			}
		}
	})
}

// laterRecorder is a handler whose changes settle when the test says so.
type laterRecorder struct {
	*recorder
	mu        sync.Mutex
	unsettled time.Time
}

func newLater() *laterRecorder {
	h := &laterRecorder{recorder: newRecorder()}
	h.onApply = func(Change) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.unsettled.IsZero() {
			h.unsettled = time.Now()
		}
	}
	return h
}

func (h *laterRecorder) settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unsettled = time.Time{}
}

func (h *laterRecorder) Unsettled() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unsettled
}

func TestWhatHasNotSettledIsAppliedByTheSuccessor(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	conn := connect(t, url)
	insert := func(key string) { exec(t, conn, fmt.Sprintf("INSERT INTO events VALUES ('%s')", key)) }
	fast := func(l *Listener) {
		l.tune.save, l.tune.maintain, l.tune.quiet = 10*time.Millisecond, 10*time.Millisecond, 10*time.Millisecond
	}
	seen := func(h *laterRecorder, key string) {
		t.Helper()
		eventually(t, func() bool { return h.count(key) > 0 }, key)
	}

	first := newLater()
	l := start(t, url, first, fast)
	leads(t, l)
	insert("before")
	seen(first, "before")
	first.settle()
	eventually(t, func() bool { return query[int64](t, conn, "SELECT count(*) FROM icache.outbox_0") == 0 }, "emptied")
	for i := range 20 {
		insert(fmt.Sprint("held", i))
		seen(first, fmt.Sprint("held", i))
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond) // many times what it takes to save, to flip and to empty
	require.Equal(t, int64(20), query[int64](t, conn, "SELECT (SELECT count(*) FROM icache.outbox_0) + (SELECT count(*) FROM icache.outbox_1)"))
	l.stop()

	second := newLater()
	l = start(t, url, second, fast)
	for i := range 20 {
		seen(second, fmt.Sprint("held", i))
	}
	require.Zero(t, second.count("before"))
	second.settle()
	insert("after")
	seen(second, "after")
	second.settle()
	saved := func() snapshot {
		s, err := parseSnapshot(query[string](t, conn, "SELECT snap::text FROM icache.cursor"))
		require.NoError(t, err)
		return s
	}
	last := query[int64](t, conn, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
	insert("one more") // has the cursor saved
	seen(second, "one more")
	second.settle()
	eventually(t, func() bool { return saved().xmax >= uint64(last) }, "the saved cursor catches up")
	eventually(t, func() bool {
		return query[int64](t, conn, "SELECT (SELECT count(*) FROM icache.outbox_0) + (SELECT count(*) FROM icache.outbox_1)") == 0
	}, "everything is emptied")
	l.stop()

	third := newLater()
	l = start(t, url, third, fast)
	leads(t, l)
	insert("new")
	seen(third, "new")
	require.Equal(t, 1, third.distinct())
	require.Empty(t, third.resetReasons())
}

// resetter is a handler for which a reset has to settle as well.
type resetter struct{ *laterRecorder }

func TestAResetThatHasNotSettledIsRepeated(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	h := newLater()
	h.unsettled = time.Now().Add(-time.Hour) // from before the first start
	l := start(t, url, resetter{h})
	leads(t, l)
	eventually(t, func() bool { return len(h.resetReasons()) == 1 }, "reset")
	time.Sleep(time.Second)
	require.Zero(t, query[int64](t, connect(t, url), "SELECT count(*) FROM icache.cursor"))
	l.stop()
	h2 := newLater()
	l = start(t, url, resetter{h2})
	leads(t, l)
	require.Len(t, h2.resetReasons(), 1)
	eventually(t, func() bool { return query[int64](t, connect(t, url), "SELECT count(*) FROM icache.cursor") == 1 }, "saved")
	l.stop()
	h3 := newLater()
	l = start(t, url, resetter{h3})
	leads(t, l)
	require.Empty(t, h3.resetReasons())
}
