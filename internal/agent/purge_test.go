package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/listener"
)

// edge is a CDN that does what the test says.
type edge struct {
	name  string
	mu    sync.Mutex
	err   error                           // of every request
	asked func(context.Context, []string) // before the answer; may be nil
	seen  []string                        // keys that were purged, repetitions included
	limit cdn.Limits
}

func newEdge() *edge { return &edge{name: "edge", limit: cdn.Limits{Keys: 100, Bytes: 1 << 20}} }

func (e *edge) Purge(ctx context.Context, keys []string) error {
	e.mu.Lock()
	asked := e.asked
	e.mu.Unlock()
	if asked != nil {
		asked(ctx, keys)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.seen = append(e.seen, keys...)
	}
	return e.err
}

func (e *edge) PurgeAll(context.Context) error { return errors.ErrUnsupported }
func (e *edge) Key(token string) string        { return token }
func (e *edge) Limits() cdn.Limits             { return e.limit }
func (e *edge) String() string                 { return e.name }
func (e *edge) Close()                         {}

func (e *edge) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *edge) onRequest(f func(context.Context, []string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = f
}

// purged returns how often a key was.
func (e *edge) purged(key string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.seen {
		if k == key {
			n++
		}
	}
	return n
}

func (e *edge) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = nil
}

func (e *edge) sink(repeat time.Duration) []cdn.Sink {
	return []cdn.Sink{{Name: "edge", Cache: e, RepeatAfter: repeat}}
}

func (e *edge) requirePurged(t *testing.T, keys ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(keys, func(k string) bool { return e.purged(k) == 0 })
	}, 30*time.Second, 5*time.Millisecond, "%v", keys)
}

// rows returns the keys in the table of purges.
func (b *bundle) rows(t *testing.T) (keys []string) {
	t.Helper()
	require.NoError(t, b.db.QueryRow(t.Context(), `SELECT coalesce(array_agg(key ORDER BY key), '{}') FROM icache.purges`).Scan(&keys))
	return keys
}

func (b *bundle) cdn(t *testing.T) cdn.Status {
	t.Helper()
	list := b.agent.Status().CDN
	require.Len(t, list, 1)
	return list[0]
}

// begin starts the first agent of a database, which has everything purged.
func (e *edge) begin(t *testing.T, repeat time.Duration) *bundle {
	t.Helper()
	b := setup(t, options{sinks: e.sink(repeat)})
	e.requirePurged(t, "*")
	b.quiet(t)
	require.Eventually(t, func() bool { return !b.agent.Status().Postgres.CursorSaved.IsZero() && len(b.rows(t)) == 0 }, 30*time.Second, 10*time.Millisecond)
	return b
}

// quiet waits until nothing is outstanding.
func (b *bundle) quiet(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return b.agent.Status().CDN[0].Pending == 0 }, 30*time.Second, 10*time.Millisecond)
}

func TestPurgesFollowTheBump(t *testing.T) {
	t.Parallel()
	e := newEdge()
	b := e.begin(t, 300*time.Millisecond)
	require.Equal(t, 2, e.purged("*"), "on the first start, and again")
	e.forget()

	before := b.values(t, "movie:1")["movie:1"]
	var at, again time.Time
	e.onRequest(func(ctx context.Context, keys []string) {
		v, err := b.cache.Values(ctx, "movie:1")
		if err == nil && v["movie:1"] <= before {
			panic("purged before Redis had acknowledged the bump")
		}
		if slices.Contains(keys, "movie:1") {
			at, again = again, time.Now()
		}
	})
	b.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	e.requirePurged(t, "movies", "movie:1", "genre:1")
	b.quiet(t)
	require.Equal(t, 2, e.purged("movie:1"))
	require.GreaterOrEqual(t, again.Sub(at), 300*time.Millisecond)
	require.Zero(t, e.purged("movie:2"))
	b.exec(t, "TRUNCATE ratings")
	e.requirePurged(t, "movie:*", "rated-genre:*")

	s := b.cdn(t)
	require.Equal(t, "edge", s.Cache)
	require.True(t, s.Durable)
	require.GreaterOrEqual(t, s.Purged, uint64(8))
	require.WithinDuration(t, time.Now(), s.LastSuccess, time.Minute)
	read := func(path string) string {
		resp, err := http.Get(b.http + path) //nolint:noctx // of a test
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(text)
	}
	require.Regexp(t, `icache_cdn_purged_keys_total\{cdn="edge"\} [1-9]`, read("/metrics"))
	require.Contains(t, read("/metrics"), `icache_cdn_failures_total{cdn="edge"} 0`)
	require.Regexp(t, `<th>CDN edge<td>edge, \d+ keys purged, last \ds ago`, read("/"))
}

// A CDN that hangs holds back neither Redis nor the outbox, and what is due
// there is not lost when the agent goes.
func TestPurgesOutliveTheAgent(t *testing.T) {
	t.Parallel()
	e := newEdge()
	b := e.begin(t, 0)
	e.forget()

	e.onRequest(func(ctx context.Context, _ []string) { <-ctx.Done() }) // it hangs
	e.fail(errors.New("no answer"))
	b.rises(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1", []string{"movie:1", "movies"})
	saved := b.agent.Status().Postgres.CursorSaved
	require.Eventually(t, func() bool { return slices.Contains(b.rows(t), "movie:1") }, 30*time.Second, 20*time.Millisecond)
	b.rises(t, "UPDATE movies SET title = 'Alien!' WHERE id = 2", []string{"movie:2"})
	require.Eventually(t, func() bool { return slices.Contains(b.rows(t), "movie:2") }, 30*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		var behind bool // of the last change
		require.NoError(t, b.db.QueryRow(t.Context(), `SELECT NOT EXISTS (SELECT FROM icache.outbox AS o, icache.cursor AS c
			WHERE NOT pg_visible_in_snapshot(o.xid, c.snap))`).Scan(&behind))
		return behind && b.agent.Status().Postgres.CursorSaved.After(saved)
	}, 30*time.Second, 20*time.Millisecond, "the cursor passes what is in the table")
	require.NoError(t, b.stop())
	require.Zero(t, e.purged("movie:1"))

	// Nothing of the outbox is applied again, so it can only be from the table.
	e.onRequest(nil)
	e.fail(nil)
	tokens := b.values(t, "movie:1")
	b.start(t, rules())
	e.requirePurged(t, "movie:1", "movie:2", "movies")
	require.Equal(t, tokens, b.values(t, "movie:1"))
	require.Zero(t, e.purged("*"))
	require.Eventually(t, func() bool { return len(b.rows(t)) == 0 }, 30*time.Second, 20*time.Millisecond)
}

// An agent that stops at once leaves its purges to its successor, by the outbox.
func TestPurgesThatWereNotWrittenDown(t *testing.T) {
	t.Parallel()
	e := newEdge()
	b := e.begin(t, 0)
	e.forget()
	e.fail(&cdn.Error{Status: 503})
	b.rises(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1", []string{"movie:1"})
	require.NoError(t, b.stop())
	require.Empty(t, b.rows(t))
	e.fail(nil)
	b.start(t, rules())
	e.requirePurged(t, "movie:1")
	require.Zero(t, e.purged("*"))
	b.quiet(t)
}

func TestEverythingIsPurgedAtACDNThatMayHaveMissedSomething(t *testing.T) {
	t.Parallel()
	e := newEdge()
	b := e.begin(t, 0)
	restart := func(sinks []cdn.Sink) {
		t.Helper()
		if b.options.sinks != nil {
			b.quiet(t)
		}
		require.NoError(t, b.stop())
		e.forget()
		b.options.sinks = sinks
		b.start(t, rules())
	}
	restart(e.sink(0))
	b.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	e.requirePurged(t, "movie:1")
	require.Zero(t, e.purged("*"), "it has missed nothing")

	restart(nil)
	b.rises(t, "UPDATE movies SET title = 'Heat?' WHERE id = 1", []string{"movie:1"})
	require.Empty(t, b.agent.Status().CDN)
	restart(e.sink(0))
	e.requirePurged(t, "*")

	e.name = "another service"
	restart(e.sink(0))
	e.requirePurged(t, "*")

	// What is due cannot be kept: each start begins anew.
	b.quiet(t)
	b.exec(t, "DROP TABLE icache.purges")
	restart(e.sink(0))
	e.requirePurged(t, "*")
	require.False(t, b.cdn(t).Durable)
	e.fail(&cdn.Error{Status: 503})
	b.rises(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1", []string{"movie:1"})
	require.Eventually(t, func() bool { return !b.agent.Status().Postgres.CursorSaved.IsZero() }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, b.stop())
	e.forget()
	e.fail(nil)
	b.start(t, rules())
	e.requirePurged(t, "*")
}

// A table that goes while the agent runs stops nothing.
func TestPurgesWithoutTheirTable(t *testing.T) {
	t.Parallel()
	e := newEdge()
	b := e.begin(t, 0)
	e.fail(&cdn.Error{Status: 503})
	b.exec(t, "DROP TABLE icache.purges")
	b.rises(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1", []string{"movie:1"})
	require.Eventually(t, func() bool { return !b.cdn(t).Durable }, 30*time.Second, 20*time.Millisecond)
	saved := b.agent.Status().Postgres.CursorSaved
	b.rises(t, "UPDATE movies SET title = 'Alien!' WHERE id = 2", []string{"movie:2"})
	require.Eventually(t, func() bool { return b.agent.Status().Postgres.CursorSaved.After(saved) }, 20*time.Second, 10*time.Millisecond)
	// It comes back, and is used again after everything has been purged.
	b.migrate(t, rules())
	require.Eventually(t, func() bool { return b.cdn(t).Durable }, 30*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { return slices.Contains(b.rows(t), "*") }, 30*time.Second, 20*time.Millisecond)
	e.fail(nil)
	e.requirePurged(t, "*")
	b.quiet(t)
}

func TestSecondBumpsArePurgedToo(t *testing.T) {
	t.Parallel()
	e := newEdge()
	const settle = 500 * time.Millisecond
	b := setup(t, options{sinks: e.sink(0), rules: settling(settle, false)})
	require.Eventually(t, func() bool { return e.purged("*") == 2 }, 30*time.Second, 5*time.Millisecond, "the first start, too")
	b.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	require.Eventually(t, func() bool { return e.purged("movie:1") == 2 }, 30*time.Second, 5*time.Millisecond)
}

// A gap has everything purged, and that outlives the agent too.
func TestAGapPurgesEverything(t *testing.T) {
	t.Parallel()
	e := newEdge()
	b := e.begin(t, 0)
	require.NoError(t, b.stop())
	e.forget()
	b.exec(t, "DELETE FROM icache.cursor")
	e.fail(&cdn.Error{Status: 503})
	b.start(t, rules())
	require.Eventually(t, func() bool { return slices.Equal(b.rows(t), []string{"*"}) }, 30*time.Second, 10*time.Millisecond, "at once")
	require.Eventually(t, func() bool { return !b.agent.Status().Postgres.CursorSaved.IsZero() }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, b.stop())
	e.fail(nil)
	b.start(t, rules())
	e.requirePurged(t, "*")
	require.Zero(t, b.agent.Status().Postgres.Resets)
}

// A standby takes over what the leader has left.
func TestAStandbyGoesOnPurging(t *testing.T) {
	t.Parallel()
	e, other := newEdge(), newEdge()
	b := e.begin(t, 0)
	a, err := agent.New(agent.Config{
		Postgres: listener.Config{URL: b.url}, Redis: b.rdb, CacheOptions: b.cacheOptions, Rules: rules(), Sinks: other.sink(0),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool { return a.Status().Ready }, 20*time.Second, 10*time.Millisecond)
	e.fail(&cdn.Error{Status: 503})
	b.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	require.Eventually(t, func() bool { return slices.Contains(b.rows(t), "movie:1") }, 30*time.Second, 20*time.Millisecond)
	require.Zero(t, other.purged("movie:1"), "a standby purges nothing")
	require.NoError(t, b.stop())
	other.requirePurged(t, "movie:1", "movies", "genre:1")
	require.Zero(t, other.purged("*"))
	require.Eventually(t, func() bool { return len(b.rows(t)) == 0 }, 30*time.Second, 20*time.Millisecond)
}

// After a restart of Redis pages may have been rendered from what it had forgotten.
func TestAReplayPurgesToo(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t, "appendonly yes", "appendfsync always")
	e := newEdge()
	b := setup(t, options{sinks: e.sink(0), redisURL: server.URL()})
	e.requirePurged(t, "*")
	b.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	e.requirePurged(t, "movie:1")
	b.quiet(t)
	e.forget()
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start(t.Context()))
	require.Eventually(t, func() bool { return e.purged("movie:1")+e.purged("*") > 0 }, 30*time.Second, 10*time.Millisecond)
}

// Backlogs of any size: the keys that are outstanding are bounded.
func TestPurgesOfABacklogAreBatched(t *testing.T) {
	t.Parallel()
	e := newEdge()
	var requests, keys int
	b := e.begin(t, 0)
	require.NoError(t, b.stop())
	for i := range 300 {
		b.exec(t, fmt.Sprintf("INSERT INTO movies VALUES (%d, 1)", 1000+i))
	}
	e.onRequest(func(_ context.Context, k []string) { requests++; keys += len(k) })
	b.start(t, rules())
	want := make([]string, 300)
	for i := range want {
		want[i] = fmt.Sprint("movie:", 1000+i)
	}
	e.requirePurged(t, want...)
	b.quiet(t)
	require.NoError(t, b.stop())
	require.GreaterOrEqual(t, keys, 302)
	require.Less(t, requests, 100, "%d keys", keys)
}
