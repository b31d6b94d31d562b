package listener

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// null counts what it is given.
type null struct {
	n    int
	keys int
}

func (h *null) Apply(_ context.Context, c Change) error { h.n++; h.keys += len(c.Keys); return nil }
func (h *null) Flush(context.Context) error             { return nil }
func (h *null) Reset(context.Context, string) error     { return nil }

// BenchmarkDrain reads a backlog of single-key rows.
func BenchmarkDrain(b *testing.B) {
	rows, _ := strconv.Atoi(os.Getenv("ICACHE_BENCH_ROWS"))
	if rows == 0 {
		rows = 200_000
	}
	url := servertest.Postgres(b)
	install(b, url)
	db := connect(b, url)
	for b.Loop() {
		b.StopTimer()
		exec(b, db, "TRUNCATE icache.outbox_0, icache.outbox_1")
		preset(b, url)
		exec(b, db, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
  INSERT INTO icache.outbox_0 (relation, op, keys) SELECT 'events'::regclass, 'U', jsonb_build_array(jsonb_build_object('id', (i * 10 + g)::text)) FROM generate_series(1, 10) g;
  COMMIT; END LOOP; END $$`, rows/10))
		h := &null{}
		b.StartTimer()
		began := time.Now()
		l := start(b, url, h)
		for l.Stats().Changes < uint64(rows) {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(float64(rows)/time.Since(began).Seconds(), "rows/s")
		b.StopTimer()
		l.stop()
		require.Equal(b, rows, h.n)
		b.ReportMetric(float64(maxRSS())/(1<<20), "max-rss-MiB")
		b.StartTimer()
	}
}

// stamps notes when a key was flushed.
type stamps struct {
	mu      sync.Mutex
	pending []string
	at      map[string]time.Time
}

func (h *stamps) Apply(_ context.Context, c Change) error {
	_, key, _ := strings.Cut(string(c.Keys), `: "`)
	key, _, _ = strings.Cut(key, `"`)
	h.pending = append(h.pending, key)
	return nil
}

func (h *stamps) Flush(context.Context) error {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.pending {
		h.at[k] = now
	}
	h.pending = h.pending[:0]
	return nil
}

func (h *stamps) Reset(context.Context, string) error { return nil }

// BenchmarkLatency measures the time from a commit's acknowledgement to the
// return of Flush, at several rates of commits per second.
func BenchmarkLatency(b *testing.B) {
	for _, rate := range []int{50, 200, 1000} {
		b.Run(fmt.Sprintf("%d_per_second", rate), func(b *testing.B) {
			url := servertest.Postgres(b)
			install(b, url)
			h := &stamps{at: map[string]time.Time{}}
			l := start(b, url, h)
			leads(b, l)
			const writers = 4
			var mu sync.Mutex
			done := map[string]time.Time{}
			var wg sync.WaitGroup
			n := max(b.N, 3*rate)
			before := cpu()
			began := time.Now()
			for w := range writers {
				conn := connect(b, url)
				wg.Go(func() {
					for i := w; i < n; i += writers {
						time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
						key := fmt.Sprint(i)
						if _, err := conn.Exec(context.Background(), "INSERT INTO events VALUES ($1)", key); err != nil {
							b.Error(err)
							return
						}
						now := time.Now()
						mu.Lock()
						done[key] = now
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			took := time.Since(began)
			busy := cpu() - before
			eventually(b, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.at) == n }, "all arrive")
			s := l.Stats()
			l.stop()
			var late []time.Duration
			for k, t := range done {
				late = append(late, max(0, h.at[k].Sub(t)))
			}
			slices.Sort(late)
			b.ReportMetric(float64(late[len(late)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(late[len(late)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(s.Polls)/took.Seconds(), "polls/s")
			b.ReportMetric(float64(s.Bells)/took.Seconds(), "bells/s")
			b.ReportMetric(100*busy.Seconds()/took.Seconds(), "cpu%")
			b.ReportMetric(float64(n)/took.Seconds(), "commits/s")
		})
	}
}

// BenchmarkIdle measures what a listener costs that has nothing to do: asleep,
// polling because it must not use the doorbell, and awake because a transaction
// that has written stays open.
func BenchmarkIdle(b *testing.B) {
	for _, mode := range []string{"asleep", "canaries", "poll", "open_writer"} {
		b.Run(mode, func(b *testing.B) {
			url := servertest.Postgres(b)
			install(b, url)
			l := start(b, url, &keeper{recorder: newRecorder()}, func(l *Listener) {
				switch mode {
				case "poll":
					l.cfg.Wake = WakePoll
				case "canaries":
					l.cfg.Canary = 1250 * time.Millisecond
				case "open_writer":
					l.tune.bell.awakeRate, l.tune.bell.asleepRate = 100, 50
				}
			})
			leads(b, l)
			if mode == "open_writer" {
				db := connect(b, url)
				for l.Stats().State != StateAwake {
					exec(b, db, "INSERT INTO events VALUES (gen_random_uuid())")
				}
				exec(b, db, "BEGIN; INSERT INTO events VALUES ('open')")
			}
			time.Sleep(3 * time.Second)
			before, began, polls := cpu(), time.Now(), l.Stats().Polls
			time.Sleep(4 * time.Second)
			took := time.Since(began).Seconds()
			b.ReportMetric(100*(cpu()-before).Seconds()/took, "cpu%")
			b.ReportMetric(float64(l.Stats().Polls-polls)/took, "polls/s")
			l.stop()
		})
	}
}

func maxRSS() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Maxrss * 1024 // KiB on Linux
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
