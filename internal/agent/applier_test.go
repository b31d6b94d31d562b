package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
)

func TestRecentTokensKeepTheWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const window = 60 * time.Second
		r := newRecentTokens(window, 1000)
		now := time.Unix(1_000_000, 0)
		last := map[string]time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "adds") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			token := fmt.Sprint("t", rapid.IntRange(0, 9).Draw(t, "token"))
			r.add(now, []string{token})
			last[token] = now
		}
		got, complete := r.snapshot(now)
		if !complete {
			t.Fatal("the bound was not reached")
		}
		for token, at := range last {
			if now.Sub(at) <= window && !slices.Contains(got, token) {
				t.Fatalf("%s, bumped %s ago, was forgotten", token, now.Sub(at))
			}
			if now.Sub(at) > 2*window && slices.Contains(got, token) {
				t.Fatalf("%s, bumped %s ago, is still there", token, now.Sub(at))
			}
		}
	})
}

func TestRecentTokensSayWhenTheyAreIncomplete(t *testing.T) {
	t.Parallel()
	r := newRecentTokens(time.Minute, 3)
	now := time.Unix(1_000_000, 0)
	r.add(now, []string{"a", "b", "c", "d"})
	_, complete := r.snapshot(now)
	require.False(t, complete)
	_, complete = r.snapshot(now.Add(time.Hour))
	require.True(t, complete, "what was forgotten is past the window")
}

// flakyBumper records what is acknowledged and fails on demand: the one thing
// that a real Redis cannot be made to do at an exact moment.
type flakyBumper struct {
	mu    sync.Mutex
	acked map[string]int
	fail  func(call int) bool
	calls int
	delay time.Duration
}

var errFlaky = errors.New("redis went away")

func (f *flakyBumper) IncrMany(_ context.Context, tokens []string) error {
	time.Sleep(f.delay)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.fail != nil && f.fail(f.calls) {
		return errFlaky
	}
	for _, t := range tokens {
		f.acked[t]++
	}
	return nil
}

func (f *flakyBumper) IncrAll(context.Context) (int, error) { return 0, nil }

func newTestApplier(t require.TestingT, b bumper) *applier {
	m, err := mapping.Compile([]mapping.Rule{{
		Table: mapping.TableName{Schema: "public", Name: "movies"}, Tokens: []string{"movies", "movie:{id}"},
	}})
	require.NoError(t, err)
	var p atomic.Pointer[mapping.Mapper]
	p.Store(m)
	log := slog.New(slog.DiscardHandler)
	metrics := newMetrics("test", func() listener.Stats { return listener.Stats{} })
	return newApplier(&p, b, newLookups(nil, log), newFeed(), metrics, newRecentTokens(time.Minute, 1000), newSettler(b, nil, metrics, log), log)
}

// Whatever fails and when: once Flush returns nil, every change since the one
// before that returned nil has been acknowledged; and what fails is repeated
// by the listener from there.
func TestFlushAcknowledgesEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		fails := rapid.SliceOfN(rapid.Bool(), 0, 12).Draw(t, "fails")
		f := &flakyBumper{acked: map[string]int{}, fail: func(n int) bool { return n <= len(fails) && fails[n-1] }}
		a := newTestApplier(t, f)
		ctx := context.Background()
		id := 0
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			n := rapid.IntRange(1, 3*flightTokens).Draw(t, "changes")
			first := id
			for attempt := 0; ; attempt++ {
				if attempt > len(fails) {
					t.Fatal("it never succeeds")
				}
				err := error(nil)
				for id = first; id < first+n && err == nil; id++ {
					keys := fmt.Appendf(nil, `[{"id": "%d"}]`, id)
					err = a.Apply(ctx, listener.Change{Table: "public.movies", Op: 'U', Keys: keys})
				}
				if err == nil {
					err = a.Flush(ctx)
				}
				if err == nil {
					break
				}
				if !errors.Is(err, errFlaky) {
					t.Fatal(err)
				}
			}
			id = first + n
			for i := first; i < id; i++ {
				if f.acked[fmt.Sprint("movie:", i)] == 0 {
					t.Fatalf("movie:%d was not acknowledged", i)
				}
			}
		}
	})
}

func TestEqualTokensCoalesce(t *testing.T) {
	t.Parallel()
	f := &flakyBumper{acked: map[string]int{}}
	a := newTestApplier(t, f)
	for range 50_000 {
		require.NoError(t, a.Apply(t.Context(), listener.Change{Table: "public.movies", Op: 'U', Keys: []byte(`[{"id": "7"}]`)}))
	}
	require.NoError(t, a.Flush(t.Context()))
	require.Equal(t, map[string]int{"movies": 1, "movie:7": 1}, f.acked)
}

func TestUnreadableKeysCountAsUnknown(t *testing.T) {
	t.Parallel()
	f := &flakyBumper{acked: map[string]int{}}
	a := newTestApplier(t, f)
	require.NoError(t, a.Apply(t.Context(), listener.Change{Table: "public.movies", Op: 'U', Keys: []byte(`[{"id": `)}))
	require.NoError(t, a.Apply(t.Context(), listener.Change{Table: "public.unknown", Op: 'U', Keys: nil}))
	require.NoError(t, a.Flush(t.Context()))
	require.Equal(t, map[string]int{"movies": 1, "movie:*": 1}, f.acked)
}

func TestASlowRedisBoundsWhatIsPending(t *testing.T) {
	t.Parallel()
	f := &flakyBumper{acked: map[string]int{}, delay: 20 * time.Millisecond}
	a := newTestApplier(t, f)
	most := 0
	for i := range 10 * flightTokens {
		require.NoError(t, a.Apply(t.Context(), listener.Change{Table: "public.movies", Op: 'U', Keys: fmt.Appendf(nil, `[{"id": "%d"}]`, i)}))
		most = max(most, len(a.cur.tokens))
	}
	require.NoError(t, a.Flush(t.Context()))
	require.LessOrEqual(t, most, pendingTokens+2)
	require.Len(t, f.acked, 10*flightTokens+1)
}

func TestASlowSubscriberMissesEventsAndIsTold(t *testing.T) {
	t.Parallel()
	f := newFeed()
	sub, recent := f.subscribe()
	require.Empty(t, recent)
	events := make([]Event, feedBuffer+10)
	f.publish(events)
	require.EqualValues(t, 10, sub.Missed())
	require.Len(t, f.last(), feedHistory)
	sub.Close()
	sub.Close()
	f.publish(events) // nobody is there any more
	n := 0
	for range sub.Events() {
		n++
	}
	require.Equal(t, feedBuffer, n)
}
