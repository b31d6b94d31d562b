package listener

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	connectTimeout = 10 * time.Second
	probeTimeout   = 2 * time.Second
	closeTimeout   = time.Second
	userTimeoutFor = 10 * time.Second
)

// dial finds a dead server in seconds instead of the kernel's quarter of an hour.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			return userTimeout(raw, userTimeoutFor)
		},
	}
	return d.DialContext(ctx, network, addr)
}

// settings of the session. The order of the planner's choices is fixed because
// the outbox is never analyzed; with sequential scans priced out, jit would
// compile every poll.
//
// The server's own keepalives and idle_session_timeout free the leader lock of
// a listener that was cut off or stopped; a live one is never idle for so long.
const settings = `
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET synchronous_commit = off;
SET statement_timeout = '120s';
SET lock_timeout = '2s';
SET idle_in_transaction_session_timeout = '30s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 10000;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET jit = off;
SET plan_cache_mode = force_generic_plan;
SET client_min_messages = warning;
SET search_path = pg_catalog, pg_temp`

// session is one connection to Postgres. One goroutine uses it at a time.
type session struct {
	l     *Listener
	conn  *pgx.Conn
	pg    *pgconn.PgConn
	rung  bool // a notification came since the last poll
	bells uint64
	nonce string
	heard bool // the notification of the self-test came

	canaryOID uint32 // relation of the rows that are canaries

	stmt statements
}

// connect opens a connection that LISTEN and session locks are known to work on.
func (l *Listener) connect(ctx context.Context) (_ *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	s := &session{l: l, nonce: "test:" + rand.Text()}
	cfg := l.conn.Copy()
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = applicationName
	}
	cfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		switch {
		case n.Payload == s.nonce:
			s.heard = true
		case n.Channel == l.names.Channel():
			s.rung = true
			s.bells++
		}
	}
	if s.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	s.pg = s.conn.PgConn()
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.selfTest(ctx); err != nil {
		return nil, err
	}
	idle := l.tune.idleSession
	if idle == 0 {
		idle = max(10*time.Second, 5*l.cfg.Heartbeat)
	}
	set := settings + fmt.Sprintf("; SET idle_session_timeout = %d", idle.Milliseconds())
	if err := s.exec(ctx, set); err != nil {
		return nil, fmt.Errorf("set up the session: %w", err)
	}
	return s, nil
}

// selfTest has the session notify itself. Through a pooler that shares
// backends between transactions LISTEN would seem to work and never deliver.
func (s *session) selfTest(ctx context.Context) error {
	channel := pgx.Identifier{s.l.names.Channel()}.Sanitize()
	if err := s.exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen on %s: %w", channel, err)
	}
	var pids [2]string
	for i := range pids {
		res, err := s.pg.Exec(ctx, fmt.Sprintf("SELECT pg_notify(%s, '%s'), pg_backend_pid()",
			literal(s.l.names.Channel()), s.nonce)).ReadAll()
		if err != nil {
			return fmt.Errorf("notify %s: %w", channel, err)
		}
		pids[i] = string(res[0].Rows[0][1])
	}
	if pids[0] != pids[1] {
		return fmt.Errorf("%w: the backend changed between two statements; connect the agent to Postgres directly", ErrPooler)
	}
	wait, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for !s.heard {
		if err := s.pg.WaitForNotification(wait); err != nil {
			if ctx.Err() == nil && wait.Err() != nil {
				return fmt.Errorf("%w: a notification to itself did not arrive; connect the agent to Postgres directly", ErrPooler)
			}
			return fmt.Errorf("wait for a notification to itself: %w", err)
		}
	}
	return s.exec(ctx, "UNLISTEN *")
}

// exec runs SQL without parameters, possibly several statements, in one round trip.
func (s *session) exec(ctx context.Context, sql string) error {
	return s.pg.Exec(ctx, sql).Close()
}

func (s *session) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.l.patience())
	defer cancel()
	return s.exec(ctx, "")
}

// wait returns when the bell has rung, after d, or when ctx ends, all of which
// are no errors and leave the connection usable.
func (s *session) wait(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := s.pg.WaitForNotification(ctx); err != nil && (ctx.Err() == nil || s.pg.IsClosed()) {
		return fmt.Errorf("wait for a notification: %w", err)
	}
	return nil
}

// during runs f, which does not use the connection, and keeps the session from
// being idle meanwhile. If the connection turns out to be lost, so may be the
// leader lock, and the context of f is cancelled.
func (s *session) during(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		done  bool
		lost  error
		timer *time.Timer
	)
	mu.Lock()
	timer = time.AfterFunc(s.l.cfg.Heartbeat, func() {
		mu.Lock()
		defer mu.Unlock()
		if done {
			return
		}
		if lost = s.ping(context.WithoutCancel(ctx)); lost != nil {
			cancel(lost)
			return
		}
		timer.Reset(s.l.cfg.Heartbeat)
	})
	mu.Unlock()
	err := f(ctx)
	mu.Lock()
	defer mu.Unlock()
	done = true
	timer.Stop()
	if lost != nil {
		return &connError{fmt.Errorf("connection lost while changes were applied: %w", lost)}
	}
	return err
}

// connError marks errors after which the session is of no more use.
type connError struct{ err error }

func (e *connError) Error() string { return e.err.Error() }
func (e *connError) Unwrap() error { return e.err }

// close says goodbye if the connection still works. If it does not, pgx tries
// for up to 15 s to cancel the last statement, which nobody should wait for.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.conn.Close(ctx)   // the server frees everything
	_ = s.pg.Conn().Close() // when the socket closes
	select {
	case <-s.pg.CleanupDone():
	case <-ctx.Done():
	}
}

// literal quotes a string constant; standard_conforming_strings is on by
// default and the strings are identifiers of our own.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// isTimeout reports whether a statement took longer than its context allowed.
func isTimeout(err error) bool {
	return pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded)
}

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}
