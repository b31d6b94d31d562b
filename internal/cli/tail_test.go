package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/agent"
)

// tailing is a command tail that runs until the test ends.
type tailing struct {
	lines  chan string
	stderr *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func startTail(t *testing.T, args ...string) *tailing {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	l := &tailing{lines: make(chan string, 1000), stderr: &lockedBuffer{}}
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, append([]string{"tail"}, args...), []string{}, w, l.stderr)
		w.Close()
	}()
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			l.lines <- s.Text()
		}
		close(l.lines)
	}()
	t.Cleanup(func() {
		cancel()
		require.Equal(t, exitOK, <-done, l.stderr.String())
	})
	return l
}

func (l *tailing) next(t *testing.T) agent.Event {
	t.Helper()
	select {
	case line := <-l.lines:
		return decode[agent.Event](t, line)
	case <-time.After(20 * time.Second):
		require.Fail(t, "no event", l.stderr.String())
		return agent.Event{}
	}
}

func (l *tailing) awaitNote(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(l.stderr.String(), text) }, 20*time.Second, 10*time.Millisecond, "%s: %s", text, l.stderr)
}

// TestTail follows a real agent, through a restart of it.
func TestTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	stop := w.startAgent(t, movieRules)
	all := startTail(t, "-c", w.config)
	deletes := startTail(t, "-c", w.config, "--op", "delete", "--table", "movies")
	// Nothing says that a tail is connected, so change something until it is seen.
	awake := func(l *tailing, sql string) agent.Event {
		for {
			w.exec(t, sql)
			select {
			case line := <-l.lines:
				return decode[agent.Event](t, line)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	e := awake(all, "UPDATE movies SET title = title || '.' WHERE id = 42")
	require.Equal(t, "change", e.Kind)
	require.Equal(t, "public.movies", e.Table)
	require.Equal(t, "update", e.Op)
	require.Equal(t, []string{"movies", "movie:42", "genre:7"}, e.Tokens)
	e = awake(deletes, "WITH d AS (DELETE FROM movies WHERE id = 43) INSERT INTO movies VALUES (44, 'x', 8) ON CONFLICT DO NOTHING; INSERT INTO movies VALUES (43, 'B', 7) ON CONFLICT DO NOTHING")
	require.Equal(t, "delete", e.Op)

	stop()
	all.awaitNote(t, "lost the agent")
	w.exec(t, "UPDATE movies SET title = 'while away' WHERE id = 42")
	w.runAgent(t)
	all.awaitNote(t, "restarted")
	e = awake(all, "UPDATE movies SET title = title || '.' WHERE id = 42")
	require.NotEmpty(t, e.Kind)
}

// stream is an agent of which only /events is true to life.
type stream struct {
	mu      sync.Mutex
	started string
	recent  []agent.Event
	conns   int
	closing chan struct{}
}

func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/events" {
		fmt.Fprint(w, `{"ready": true}`)
		return
	}
	s.mu.Lock()
	s.conns++
	w.Header().Set(agent.StartedHeader, s.started)
	closing := s.closing
	fmt.Fprint(w, ": alive\n\n")
	if s.conns > 1 || r.URL.Query().Get("recent") != "0" {
		for _, e := range s.recent {
			data, _ := json.Marshal(e)
			fmt.Fprintf(w, "id: %d\nevent: change\ndata: %s\n\n", e.Seq, data)
		}
	}
	s.mu.Unlock()
	w.(http.Flusher).Flush()
	select {
	case <-closing:
	case <-r.Context().Done():
	}
}

// again ends the connections and offers these events to those that come back.
func (s *stream) again(started string, seqs ...uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = started
	s.recent = nil
	for _, seq := range seqs {
		s.recent = append(s.recent, agent.Event{Seq: seq, Kind: "change", Table: "public.a", Op: "insert", Tokens: []string{"a"}})
	}
	close(s.closing)
	s.closing = make(chan struct{})
}

// TestTailMissed: events are neither repeated after a reconnection nor lost unnoticed.
func TestTailMissed(t *testing.T) {
	t.Parallel()
	s := &stream{started: "monday", closing: make(chan struct{})}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close) // after tail has ended
	l := startTail(t, "--http-listen", strings.TrimPrefix(server.URL, "http://"))
	l.awaitNote(t, "stands by")

	expect := func(want ...any) {
		t.Helper()
		for _, w := range want {
			e := l.next(t)
			if text, isText := w.(string); isText {
				require.Equal(t, missedKind, e.Kind, text)
			} else {
				require.EqualValues(t, w, e.Seq)
			}
		}
	}
	s.again("monday", 5, 6)
	expect(5, 6)
	s.again("monday", 5, 6, 7)
	expect(7)
	s.again("monday", 11, 12)
	expect("three", 11, 12)
	s.again("tuesday", 1, 2)
	expect(1, 2)
	require.Contains(t, l.stderr.String(), "restarted")
	require.Contains(t, l.stderr.String(), "back")
}

func TestTailUnreachable(t *testing.T) {
	t.Parallel()
	r := agentCLI(t, "tail", "--http-listen", "127.0.0.1:1")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "is it running")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	r = agentCLI(t, "tail", "--http-listen", strings.TrimPrefix(other.URL, "http://"))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "is not an agent")
	r = agentCLI(t, "tail", "--op", "upsert")
	require.Equal(t, exitUsage, r.code)
}

func TestTailFilter(t *testing.T) {
	t.Parallel()
	change := func(table, op string, tokens ...string) agent.Event {
		return agent.Event{Kind: "change", Table: table, Op: op, Tokens: tokens}
	}
	e := change("public.movies", "update", "movies", "movie:42")
	bulk := change("public.movies", "delete", "movies", "movie:*")
	many := change("public.movies", "insert", "movie:1")
	many.More = 5
	reset := agent.Event{Kind: "reset", Tokens: []string{"*"}}
	for _, test := range []struct {
		filter tailFilter
		event  agent.Event
		want   bool
	}{
		{tailFilter{}, e, true},
		{tailFilter{tables: []string{"movies"}}, e, true},
		{tailFilter{tables: []string{"genres", "public.mov*"}}, e, true},
		{tailFilter{tables: []string{"genres"}}, e, false},
		{tailFilter{tables: []string{`"Odd"`}}, change(`public."Odd"`, "insert"), true},
		{tailFilter{ops: []string{"insert", "update"}}, e, true},
		{tailFilter{ops: []string{"insert"}}, e, false},
		{tailFilter{tokens: []string{"movie:4?"}}, e, true},
		{tailFilter{tokens: []string{"movie:5*"}}, e, false},
		{tailFilter{tokens: []string{"movie:5"}}, bulk, true},
		{tailFilter{tokens: []string{"genre:5"}}, bulk, false},
		{tailFilter{tokens: []string{"movie:5"}}, many, true},
		{tailFilter{tables: []string{"genres"}, tokens: []string{"x"}}, reset, true},
	} {
		require.Equal(t, test.want, test.filter.wants(test.event), "%+v %+v", test.filter, test.event)
	}
}

func TestTailText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	a := &app{stdout: &b}
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.Local)
	events := []agent.Event{
		{Time: at, Kind: "change", Table: "public.movies", Op: "update", Keys: json.RawMessage(`[{"id": "42"}]`), Tokens: []string{"movies", "movie:\x1b[2J"}, More: 3},
		{Time: at, Kind: "change", Table: "public.movies", Op: "truncate", Tokens: []string{"movies"}},
		{Time: at, Kind: "reset", Reason: "failover", Tokens: []string{"*"}},
		{Time: at, Kind: missedKind, More: 1},
	}
	for _, e := range events {
		require.NoError(t, a.eventText(colours{})(e, nil))
	}
	require.Equal(t, `12:00:00.000 public.movies update [{"id": "42"}] → movies movie:\x1b[2J … and 3 more
12:00:00.000 public.movies truncate (keys unknown: everything of the table) → movies
12:00:00.000 reset: everything is outdated failover
12:00:00.000 missed 1 event
`, b.String())
	b.Reset()
	require.NoError(t, a.eventText(ansi)(events[0], nil))
	require.Contains(t, b.String(), "\x1b[1mpublic.movies\x1b[0m \x1b[33mupdate\x1b[0m")
}
