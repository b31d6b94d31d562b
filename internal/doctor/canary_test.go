package doctor_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/doctor"
	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/listener"
)

func TestCanary(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, looked := b.examine(t)["canary"]
	require.False(t, looked, "without an agent there is nobody to carry it")
	a, err := agent.New(agent.Config{Postgres: listener.Config{URL: b.url}, Redis: b.cfg.Redis})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	require.Eventually(t, func() bool { return a.Status().Postgres.Leader && a.Status().Ready }, 20*time.Second, 10*time.Millisecond)
	f := b.examine(t)["canary"]
	require.NotEmpty(t, f.Found)
	require.Less(t, map[doctor.Level]int{doctor.OK: 0, doctor.Note: 1, doctor.Warning: 2, doctor.Serious: 3}[f.Level], 3, "%+v", f)
	require.Contains(t, f.Found, "to redis in ")
	keys, err := b.cfg.Redis.Keys(t.Context(), "icache:canary:*").Result()
	require.NoError(t, err)
	require.Empty(t, keys, "nothing is left behind")
	stop()
	require.NoError(t, <-done)
}

// Somebody leads who does not carry it.
func TestCanaryThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.db.Exec(t.Context(), "SELECT pg_advisory_lock($1)", outbox.In("").LeaderKey())
	require.NoError(t, err)
	f := b.examine(t)["canary"]
	require.Equal(t, doctor.Serious, f.Level)
	require.Contains(t, f.Found, "did not reach redis")
}
