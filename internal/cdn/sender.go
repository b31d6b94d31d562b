package cdn

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// gather is for how long keys are collected to be purged together.
	gather       = 20 * time.Millisecond
	pauseFirst   = 500 * time.Millisecond // after a failure; doubles with each
	pauseLongest = time.Minute
	retryLongest = 15 * time.Minute // however long a sink wants to be left alone
	failedAgain  = time.Minute      // how often a failure that lasts is logged
)

// sender purges what is outstanding at one sink.
type sender struct {
	Sink
	queue   *queue
	limiter *rate.Limiter
	log     *slog.Logger

	pause time.Duration // the last one, 0 after a success

	mu     sync.Mutex
	status Status
	warned time.Time
}

// Status is what there is to know about a sink.
type Status struct {
	Name    string    `json:"name"`
	Cache   string    `json:"cache"`   // which it is, without secrets
	Pending int       `json:"pending"` // keys that are to be purged, or purged again
	Oldest  time.Time `json:"oldest,omitzero"`
	// Purged counts keys, and Requests requests, that the sink has acknowledged.
	Purged   uint64 `json:"purged"`
	Requests uint64 `json:"requests"`
	// Failures counts requests that failed and are repeated.
	Failures    uint64    `json:"failures"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	Error       string    `json:"error,omitempty"` // the last failure, if there was no success since
	// Durable is whether what is outstanding survives this process. If not,
	// everything is purged when another takes over.
	Durable bool `json:"durable"`
}

func newSender(s Sink, limit int, log *slog.Logger) *sender {
	if s.Rate <= 0 {
		s.Rate = rate.Inf
	}
	return &sender{
		Sink: s, queue: newQueue(s.Cache, s.RepeatAfter, limit), log: log.With("cdn", s.Name),
		limiter: rate.NewLimiter(s.Rate, max(1, s.Burst)),
		status:  Status{Name: s.Name, Cache: s.Cache.String()},
	}
}

// run purges until ctx ends.
func (s *sender) run(ctx context.Context) {
	for s.await(ctx) && s.limiter.Wait(ctx) == nil {
		batch := s.queue.take(s.Cache.Limits(), time.Now())
		if len(batch) == 0 {
			continue
		}
		if pause := s.send(ctx, batch); pause > 0 {
			sleep(ctx, pause)
		}
	}
}

// await returns true when there is something to purge, false if ctx ended.
func (s *sender) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		ready, in := s.queue.next(time.Now())
		if ready {
			sleep(ctx, gather)
			return ctx.Err() == nil
		}
		var timer <-chan time.Time
		if in >= 0 {
			timer = time.After(in)
		}
		select {
		case <-ctx.Done():
		case <-s.queue.wake:
		case <-timer:
		}
	}
	return false
}

// send purges a batch and returns for how long the sink is to be left alone.
func (s *sender) send(ctx context.Context, batch []taken) time.Duration {
	keys := make([]string, len(batch))
	for i, t := range batch {
		keys[i] = t.key
	}
	err := s.purge(ctx, keys)
	if err == nil {
		s.queue.acknowledged(batch, time.Now())
		s.succeeded(ctx, len(keys))
		return 0
	}
	if rejected(err) && (len(keys) > 1 || keys[0] != s.queue.all) {
		s.log.WarnContext(ctx, "cdn: keys were rejected, purging everything in their place", "keys", len(keys), "error", err)
		s.queue.giveUp(time.Now())
	} else {
		s.queue.failed(batch)
	}
	if ctx.Err() != nil {
		return 0
	}
	return s.failed(ctx, err)
}

// purge falls back to purging all that the cache has if it does not take the
// key of every response.
func (s *sender) purge(ctx context.Context, keys []string) error {
	err := s.Cache.Purge(ctx, keys)
	if rejected(err) && len(keys) == 1 && keys[0] == s.queue.all {
		if all := s.Cache.PurgeAll(ctx); !errors.Is(all, errors.ErrUnsupported) {
			return all
		}
	}
	return err
}

func (s *sender) succeeded(ctx context.Context, keys int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Error != "" {
		s.log.InfoContext(ctx, "cdn: purges work again")
	}
	s.status.Error, s.status.LastSuccess = "", time.Now()
	s.status.Requests++
	s.status.Purged += uint64(keys)
	s.pause, s.warned = 0, time.Time{}
}

func (s *sender) failed(ctx context.Context, err error) time.Duration {
	s.pause = min(max(2*s.pause, pauseFirst), pauseLongest)
	pause := s.pause - s.pause/4 + rand.N(s.pause/2)
	if e, ok := errors.AsType[*Error](err); ok {
		pause = max(pause, min(e.RetryAfter, retryLongest))
	}
	pending, _ := s.queue.waits()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Error, s.status.LastFailure = err.Error(), time.Now()
	s.status.Failures++
	if time.Since(s.warned) >= failedAgain {
		s.warned = time.Now()
		s.log.WarnContext(ctx, "cdn: a purge failed, will try again", "error", err, "pending", pending, "in", pause.Round(time.Millisecond))
	}
	return pause
}

func (s *sender) report() Status {
	pending, oldest := s.queue.waits()
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	status.Pending, status.Oldest = pending, oldest
	return status
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
