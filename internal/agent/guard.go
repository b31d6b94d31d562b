package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/outbox"
)

// canariesPerLease is how many canaries are sent in the time that a lease
// lasts: so many minus one may be late before a healthy pipe loses its lease.
const canariesPerLease = 4

// guard renews the guard's lease whenever a canary has gone the whole way: from
// the outbox through the listener, behind every change that was committed before
// it was sent, which Redis has acknowledged by then.
//
// The lease ends a fixed time after the clock of Redis was read, and that is
// read before the canary is sent. So whenever the lease holds, what was
// committed longer ago than that time has been bumped, wherever the agent, or
// this machine, was stopped in between.
type guard struct {
	cache   *icache.Cache
	rdb     redis.UniversalClient
	lease   time.Duration                   // 0: none
	confirm func(ctx context.Context) error // that Redis has not lost what it acknowledged
	metrics *metrics

	note string    // sent along with the canary that is under way
	sent time.Time // when, on the clock of Redis
	left time.Time // when, on ours

	mu     sync.Mutex
	status GuardStatus
}

// GuardStatus is what /status says about the guard's lease.
type GuardStatus struct {
	Lease    string    `json:"lease"`            // how long it lasts, "0s" if there is none
	Renewed  time.Time `json:"renewed,omitzero"` // by this agent
	Renewals uint64    `json:"renewals"`
}

func (g *guard) report() GuardStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	s.Lease = g.lease.String()
	return s
}

// every is how often canaries are sent.
func (g *guard) every() time.Duration { return g.lease / canariesPerLease }

// Canary implements [listener.Canaries].
func (a *applier) Canary(ctx context.Context) (string, error) { return a.guard.canary(ctx) }

// Arrived implements [listener.Canaries].
func (a *applier) Arrived(ctx context.Context, note string) error { return a.guard.arrived(ctx, note) }

func (g *guard) canary(ctx context.Context) (string, error) {
	g.note = ""
	now, err := g.cache.LeaseClock(ctx)
	if err != nil {
		return "", err
	}
	g.note, g.sent, g.left = "lease:"+rand.Text(), now, time.Now()
	return g.note, nil
}

func (g *guard) arrived(ctx context.Context, note string) error {
	if id, ok := strings.CutPrefix(note, outbox.CanaryOfDoctor); ok {
		return g.acknowledge(ctx, id)
	}
	if note == "" || note != g.note {
		return nil // of an earlier leader, or one that was given up
	}
	g.note = ""
	if time.Since(g.left) >= g.lease {
		return errors.New("a canary took longer than the lease lasts; the lease is not renewed")
	}
	if err := g.confirm(ctx); err != nil {
		return fmt.Errorf("the lease is not renewed: %w", err)
	}
	if err := g.cache.RenewLease(ctx, g.sent.Add(g.lease)); err != nil {
		return err
	}
	g.metrics.renewals.Inc()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status.Renewed = time.Now()
	g.status.Renewals++
	return nil
}

// acknowledge tells whoever sent the canary that it has reached Redis.
func (g *guard) acknowledge(ctx context.Context, id string) error {
	if err := g.rdb.Set(ctx, outbox.CanaryKey(g.cache.LeaseKey(), id), 1, outbox.CanaryTTL).Err(); err != nil {
		return fmt.Errorf("acknowledge a canary: %w", err)
	}
	return nil
}
