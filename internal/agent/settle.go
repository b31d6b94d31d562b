package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/mapping"
)

const (
	// settleTokens bounds the tokens that wait for their second bump, at some
	// 100 bytes each; past it their groups wait, and past twice as many the
	// generation.
	settleTokens = 100_000
	// settleReplicasMax is how long a second bump waits for the standbys.
	settleReplicasMax = time.Minute
	settleReplicasGap = 100 * time.Millisecond // between looks at the standbys
	settleRetry       = 500 * time.Millisecond
)

// delay says when tokens are bumped a second time: after a time, or when the
// standbys have replayed the change.
type delay struct {
	after    time.Duration
	replicas bool
}

func delayOf(r *mapping.CompiledRule) delay { return delay{r.Rule.Settle, r.Rule.SettleReplicas} }

func (d delay) none() bool { return d == delay{} }

// step is how long tokens are collected to be bumped together.
func (d delay) step() time.Duration {
	if d.replicas {
		return settleReplicasGap
	}
	return min(d.after/8, time.Second)
}

// settler bumps tokens a second time. What waits here is not lost with the
// process: until it has been done the saved cursor stays behind, and a successor
// applies those changes again; see [listener.Settler].
type settler struct {
	cache    bumper
	standbys *standbys
	purger   *cdn.Purger
	metrics  *metrics
	log      *slog.Logger
	max      int
	wake     chan struct{}

	mu    sync.Mutex
	waits []*wait // in the order in which they were begun
	n     int     // tokens in all of them
}

// wait is a set of tokens that wait together.
type wait struct {
	delay  delay
	first  time.Time // when the first change was applied
	closed time.Time // nothing is added from then on
	tokens map[string]struct{}
	all    bool   // everything, after a reset
	target uint64 // position in the log that the standbys must have replayed; 0: not known yet
}

func newSettler(cache bumper, s *standbys, m *metrics, log *slog.Logger) *settler {
	return &settler{cache: cache, standbys: s, metrics: m, log: log, max: settleTokens, wake: make(chan struct{}, 1)}
}

// open returns the set that takes tokens now.
func (s *settler) open(d delay) *wait {
	now := time.Now() // under the lock: what ready has seen closed is not written to again
	for _, w := range slices.Backward(s.waits) {
		if w.delay == d && now.Before(w.closed) {
			return w
		}
	}
	w := &wait{delay: d, first: now, closed: now.Add(d.step()), tokens: make(map[string]struct{})}
	s.waits = append(s.waits, w)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return w
}

// add has tokens bumped again. They are copied.
func (s *settler) add(d delay, tokens []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.open(d)
	for _, t := range tokens {
		if s.n >= s.max {
			group, ok := mapping.Group(t)
			if !ok || s.n >= 2*s.max {
				group = mapping.Generation
			}
			t = group
		}
		if _, dup := w.tokens[t]; !dup {
			w.tokens[t] = struct{}{}
			s.n++
		}
	}
	s.metrics.unsettled.Set(float64(s.n))
}

// addAll has everything bumped again.
func (s *settler) addAll(d delay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open(d).all = true
}

// oldest returns when the earliest change that waits was applied, zero if none does.
func (s *settler) oldest() (t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.waits {
		if t.IsZero() || w.first.Before(t) {
			t = w.first
		}
	}
	return t
}

// run bumps what is due until ctx ends.
func (s *settler) run(ctx context.Context) {
	defer s.standbys.close(context.WithoutCancel(ctx))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		timer.Reset(s.round(ctx))
	}
}

// round bumps what is due and returns when to look again.
func (s *settler) round(ctx context.Context) time.Duration {
	s.askStandbys(ctx)
	ready, next := s.ready()
	for _, w := range ready {
		if err := s.bump(ctx, w); err != nil {
			if ctx.Err() == nil {
				s.metrics.bumpErrors.Inc()
				s.log.WarnContext(ctx, "agent: the second bump of tokens failed, will try again", "error", err)
			}
			return settleRetry
		}
		s.done(w)
	}
	return next
}

// ready returns what is due, and for how long nothing else is.
func (s *settler) ready() (ready []*wait, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	next = time.Hour
	for _, w := range s.waits {
		due := w.closed.Add(w.delay.after)
		if w.delay.replicas {
			due = w.closed.Add(settleReplicasMax)
		}
		switch left := due.Sub(now); {
		case left <= 0 || w.delay.replicas && w.target == replayed:
			ready = append(ready, w)
		case w.delay.replicas:
			next = min(next, settleReplicasGap)
		default:
			next = min(next, left)
		}
	}
	return ready, next
}

func (s *settler) bump(ctx context.Context, w *wait) error {
	if w.all {
		if _, err := s.cache.IncrAll(ctx); err != nil {
			return err
		}
		s.purger.AddAll(w.first, "")
	}
	// Closed: nobody writes to it any more.
	tokens := make([]string, 0, len(w.tokens))
	for t := range w.tokens {
		tokens = append(tokens, t)
	}
	if len(tokens) > 0 {
		if err := s.cache.IncrMany(ctx, tokens); err != nil {
			return err
		}
		s.purger.Add(w.first, tokens)
	}
	s.metrics.settled.Add(float64(len(tokens)))
	if w.delay.replicas && w.target != replayed {
		s.log.WarnContext(ctx, "agent: a standby has not replayed a change in time, its tokens were bumped again all the same; a reader of it may cache what is old",
			"waited", settleReplicasMax, "tokens", len(tokens))
	}
	return nil
}

func (s *settler) done(w *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.waits {
		if s.waits[i] == w {
			s.waits = append(s.waits[:i], s.waits[i+1:]...)
			break
		}
	}
	s.n -= len(w.tokens)
	s.metrics.unsettled.Set(float64(s.n))
}

// askStandbys finds out which sets the standbys have replayed.
func (s *settler) askStandbys(ctx context.Context) {
	s.mu.Lock()
	var asking []*wait
	now := time.Now()
	for _, w := range s.waits {
		if w.delay.replicas && w.target != replayed && !now.Before(w.closed) {
			asking = append(asking, w)
		}
	}
	s.mu.Unlock()
	if len(asking) == 0 {
		return
	}
	p, err := s.standbys.ask(ctx)
	if err != nil {
		s.standbys.warn(ctx, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range asking {
		if w.target == 0 {
			w.target = p.written // after the commit of all of them
		}
		if p.standbys == 0 || p.unknown == 0 && p.replayed >= w.target {
			w.target = replayed
		}
	}
}
