package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

const agentPID = "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE application_name = 'icache-agent' AND datname = current_database()"

func TestTerminatedConnections(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec, func(l *Listener) { l.tune.backoffMax = 50 * time.Millisecond })
	leads(t, l)
	eventually(t, func() bool { return !l.Stats().CursorSaved.IsZero() }, "the cursor is saved")
	db := connect(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_, _ = db.Exec(context.Background(), "SELECT pg_terminate_backend(("+agentPID+"))")
			time.Sleep(rand.N(200 * time.Millisecond))
		}
	})
	w := runWorkload(t, url, 4, 3*time.Second, shape{long: true})
	cancel()
	wg.Wait()
	w.check(t, rec)
	require.Greater(t, l.Stats().Connects, uint64(3))
	require.Len(t, rec.resetReasons(), 1, "a lost connection resets nothing")
	l.stop()
}

func TestCleanRestartOfPostgres(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	url := server.URL()
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec)
	leads(t, l)
	db := connect(t, url)
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return rec.count("a") == 1 }, "the change arrives")
	rec.setFailure(errHandler)
	exec(t, db, "INSERT INTO events VALUES ('b')")
	eventually(t, func() bool { return l.Stats().HandlerErrors > 0 }, "the handler fails")
	require.NoError(t, server.Stop())
	rec.setFailure(nil)
	require.NoError(t, server.Start(t.Context()))
	eventually(t, func() bool { return rec.count("b") >= 1 }, "the change from before the restart arrives")
	db = connect(t, url)
	exec(t, db, "INSERT INTO events VALUES ('c')")
	eventually(t, func() bool { return rec.count("c") == 1 }, "the change arrives")
	require.Len(t, rec.resetReasons(), 1, "a clean restart does not cost the cache")
	l.stop()
}

func TestCrashOfPostgres(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(t *testing.T, server pgServer, agent int){
		"immediate stop": func(t *testing.T, server pgServer, _ int) {
			require.NoError(t, server.StopImmediate())
			require.NoError(t, server.Start(context.Background()))
		},
		// All backends are restarted, and the start time stays the same.
		"one backend killed": func(t *testing.T, server pgServer, agent int) {
			victim := connect(t, server.URL())
			require.NoError(t, syscall.Kill(int(victim.PgConn().PID()), syscall.SIGKILL))
		},
		"killed": func(t *testing.T, server pgServer, _ int) {
			require.NoError(t, server.Kill())
			require.NoError(t, server.Start(context.Background()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servertest.OwnPostgres(t)
			url := server.URL()
			install(t, url)
			rec := newRecorder()
			l := start(t, url, rec)
			leads(t, l)
			db := connect(t, url)
			exec(t, db, "SET synchronous_commit = off")
			exec(t, db, "INSERT INTO events VALUES ('a')")
			eventually(t, func() bool { return rec.count("a") == 1 }, "the change arrives")
			crash(t, server, 0)
			eventually(t, func() bool { return len(rec.resetReasons()) == 2 }, "a crash may have undone commits")
			eventually(t, func() bool {
				c, err := tryConnect(t, url)
				if err != nil {
					return false
				}
				_, err = c.Exec(t.Context(), "INSERT INTO events VALUES ('b')")
				return err == nil
			}, "postgres recovers")
			eventually(t, func() bool { return rec.count("b") == 1 }, "the change arrives")
			require.Contains(t, rec.resetReasons()[1], "no cursor")
			l.stop()
		})
	}
}

type pgServer interface {
	URL() string
	Start(ctx context.Context) error
	StopImmediate() error
	Kill() error
}

// proxy forwards connections to addr until it is told to swallow everything.
type proxy struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	hole  map[net.Conn]bool
	wg    sync.WaitGroup
}

func newProxy(t *testing.T, addr string) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: ln, hole: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			p.wg.Go(func() { p.forward(out, in) })
			p.wg.Go(func() { p.forward(in, out) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) forward(dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		swallow := p.hole[src] || p.hole[dst]
		p.mu.Unlock()
		if swallow && err == nil {
			continue
		}
		if swallow { // the other side learns nothing of it
			return
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			dst.Close()
			if errors.Is(err, io.EOF) {
				return
			}
			return
		}
	}
}

// swallow makes all present connections black holes.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		p.hole[c] = true
	}
}

func TestBlackHole(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	install(t, server.URL())
	p := newProxy(t, server.Addr())
	rec := newRecorder()
	l := start(t, viaProxy(t, server.URL(), p), rec, func(l *Listener) {
		l.cfg.Heartbeat = 200 * time.Millisecond
		l.tune.timeout = 500 * time.Millisecond
		l.tune.idleSession = time.Second
	})
	leads(t, l)
	db := connect(t, server.URL())
	exec(t, db, "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return l.Stats().State == StateAsleep && rec.count("a") == 1 }, "it sleeps")
	p.swallow()
	began := time.Now()
	exec(t, db, "INSERT INTO events VALUES ('b')")
	eventually(t, func() bool { return l.Stats().State != StateAsleep }, "the dead connection is noticed")
	require.Less(t, time.Since(began), 5*time.Second)
	// The server still believes in the old connection, which holds the leader lock, until it has been idle for too long.
	eventually(t, func() bool { return rec.count("b") == 1 }, "the change arrives")
	t.Logf("recovered after %s", time.Since(began))
	require.Less(t, time.Since(began), 8*time.Second)
	require.Len(t, rec.resetReasons(), 1)
	l.stop()
}

func TestFailingHandler(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	rec := newRecorder()
	l := start(t, url, rec, func(l *Listener) {
		l.tune.handlerMin, l.tune.handlerMax = 5*time.Millisecond, 50*time.Millisecond
		l.tune.idleSession = time.Second
	})
	leads(t, l)
	db := connect(t, url)
	rec.setFailure(errHandler)
	for i := range 10 {
		exec(t, db, "INSERT INTO events VALUES ($1)", fmt.Sprint(i))
	}
	eventually(t, func() bool { return l.Stats().State == StateBlocked && l.Stats().HandlerErrors > 5 }, "the handler fails")
	require.Contains(t, l.Stats().LastError, errHandler.Error())
	for range 5 {
		require.Zero(t, query[int](t, db, "SELECT count(*) FROM pg_stat_activity WHERE pid = ("+agentPID+") AND (state LIKE 'idle in%' OR backend_xmin IS NOT NULL)"),
			"no statement is open meanwhile")
		time.Sleep(300 * time.Millisecond)
	}
	require.Zero(t, rec.distinct())
	rec.setFailure(nil)
	eventually(t, func() bool { return rec.distinct() == 10 }, "everything arrives")
	require.Equal(t, uint64(1), l.Stats().Connects, "the session stayed alive")

	// Stopped while the handler fails, it leaves what is not applied to the next one.
	rec.setFailure(errHandler)
	exec(t, db, "INSERT INTO events VALUES ('last')")
	errs := l.Stats().HandlerErrors
	eventually(t, func() bool { return l.Stats().HandlerErrors > errs }, "the handler fails")
	began := time.Now()
	l.stop()
	require.Less(t, time.Since(began), 4*time.Second)
	rec.setFailure(nil)
	l = start(t, url, rec)
	eventually(t, func() bool { return rec.count("last") == 1 }, "the change arrives")
	require.Len(t, rec.resetReasons(), 1)
	l.stop()
}

// A handler that takes long is no reason to lose the session.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	rec := newRecorder()
	rec.onApply = func(Change) { time.Sleep(1500 * time.Millisecond) }
	l := start(t, url, rec, func(l *Listener) {
		l.cfg.Heartbeat = 100 * time.Millisecond
		l.tune.idleSession = 500 * time.Millisecond
	})
	leads(t, l)
	exec(t, connect(t, url), "INSERT INTO events VALUES ('a')")
	eventually(t, func() bool { return rec.count("a") == 1 }, "the change arrives")
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, uint64(1), l.Stats().Connects)
	require.Equal(t, 1, rec.changes)
	l.stop()
}
