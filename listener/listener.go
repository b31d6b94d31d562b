package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// A Listener reads the outbox of one database. Use [New].
type Listener struct {
	cfg   Config
	conn  *pgx.ConnConfig
	names outbox.Names
	log   *slog.Logger
	tune  tuning
	stats statsBox
	hooks hooks

	running  atomic.Bool
	timeouts atomic.Int32 // statements in a row that took too long
	refresh  atomic.Bool  // the handler has other rules
	seen     snapshot     // the furthest cursor of any session so far
	led      bool         // the database objects have been found in order
}

// hooks are points at which tests look on or interfere. They are nil otherwise.
type hooks struct {
	limit func() int       // the most rows of a poll
	read  func(b *batch)   // a batch has been read
	files func(table int)  // between two page ranges
	led   func(s *session) // the leader lock has been obtained
}

// Run applies changes until ctx ends, and then returns nil once the batch in
// hand is finished, the cursor saved and the leader lock released. It retries
// all errors but those that only a person can do something about: [ErrSchema]
// and [ErrPooler]. Objects that were there and are gone are waited for, since
// that is what restoring a dump over them looks like. A listener runs once at a
// time.
func (l *Listener) Run(ctx context.Context) error {
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("listener: Run is already running")
	}
	defer l.running.Store(false)
	defer l.setState(StateStopped)

	// Work goes on for a moment after ctx has ended, so that nothing is torn apart.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(l.cfg.ShutdownTimeout, func() { stop(errors.New("the time to shut down is over")) })
		context.AfterFunc(work, func() { timer.Stop() })
	})()

	pause := backoff{min: l.tune.backoffMin, max: l.tune.backoffMax}
	for ctx.Err() == nil {
		started := time.Now()
		err := l.session(ctx, work)
		switch {
		case err == nil:
			continue // ctx has ended
		case errors.Is(err, errMissing) && l.led:
			// somebody restores a dump
		case errors.Is(err, ErrSchema), errors.Is(err, ErrPooler):
			return fmt.Errorf("listener: %w", err)
		}
		if ctx.Err() != nil {
			l.log.DebugContext(ctx, "listener: session ended with an error during shutdown", "error", err)
			return nil
		}
		if isTimeout(err) {
			l.timeouts.Add(1)
		}
		l.failed(err)
		if time.Since(started) > healthySession {
			pause.reset()
		}
		d := pause.next()
		l.log.WarnContext(ctx, "listener: lost the session, will connect again", "error", err, "in", d)
		sleep(ctx, d)
	}
	return nil
}

// session connects, waits to become the leader, and leads.
func (l *Listener) session(ctx, work context.Context) error {
	l.setState(StateConnecting)
	s, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	l.stats.update(func(st *Stats) { st.Connects++ })
	if err := s.checkSchema(ctx); err != nil {
		return err
	}
	if ok, err := s.awaitLeadership(ctx, work); err != nil || !ok {
		return err
	}
	ld, err := s.takeOver(ctx, work)
	if err != nil {
		return err
	}
	return ld.run(ctx)
}

func (l *Listener) failed(err error) {
	l.stats.update(func(s *Stats) { s.LastError, s.LastErrorTime = err.Error(), time.Now() })
}

// healthySession is how long a session must last for the next pause to be short again.
const healthySession = time.Second

// backoff is exponential with jitter.
type backoff struct {
	min, max, cur time.Duration
}

func (b *backoff) next() time.Duration {
	b.cur = min(max(2*b.cur, b.min), b.max)
	return jitter(b.cur)
}

func (b *backoff) reset() { b.cur = 0 }

// jitter returns d, more or less a quarter.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
