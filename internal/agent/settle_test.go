package agent

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
)

func newTestSettler(b bumper) *settler {
	log := slog.New(slog.DiscardHandler)
	return newSettler(b, &standbys{log: log}, newMetrics("test", func() listener.Stats { return listener.Stats{} }), log)
}

func TestSettlerKeepsItsBound(t *testing.T) {
	t.Parallel()
	b := &flakyBumper{acked: map[string]int{}}
	s := newTestSettler(b)
	s.max = 10
	d := delay{after: time.Millisecond}
	began := time.Now()
	for i := range 1000 {
		s.add(d, []string{fmt.Sprint("movie:", i), fmt.Sprint("kind", i, ":x"), fmt.Sprint("plain", i)})
	}
	require.LessOrEqual(t, s.n, 20+3*len(s.waits))
	require.False(t, s.oldest().Before(began))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.run(ctx); close(done) }()
	require.Eventually(t, func() bool { return s.oldest().IsZero() }, 10*time.Second, time.Millisecond)
	cancel()
	<-done
	require.Zero(t, s.n)
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Positive(t, b.acked["movie:0"])
	require.Zero(t, b.acked["movie:999"])
	require.Positive(t, b.acked[mapping.Generation], "what did not fit is covered")
}

func TestSettlerTriesAgain(t *testing.T) {
	t.Parallel()
	b := &flakyBumper{acked: map[string]int{}, fail: func(call int) bool { return call <= 2 }}
	s := newTestSettler(b)
	s.add(delay{after: 10 * time.Millisecond}, []string{"movie:1"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.run(ctx); close(done) }()
	require.Eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.calls == 1 }, 10*time.Second, time.Millisecond)
	require.False(t, s.oldest().IsZero(), "what was not acknowledged has not settled")
	require.Eventually(t, func() bool { return s.oldest().IsZero() }, 10*time.Second, time.Millisecond)
	cancel()
	<-done
	require.Equal(t, 1, b.acked["movie:1"])
}
