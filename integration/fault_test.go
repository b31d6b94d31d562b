package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// Faults under load. Each test ends with the comparison of all tokens with the tables.

func TestAgentKilledUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBank(t, servertest.OwnPostgres(t), servertest.Redis(t))
	a := startAgent(t, b.config)
	duration := pgbenchDuration(t)
	wait := b.load(t, duration)

	kills := 0
	for end := time.Now().Add(duration); time.Now().Before(end); kills++ {
		time.Sleep(700 * time.Millisecond) // long enough to be in mid-drain, rarely at a boundary
		a.kill()
		a = startAgent(t, b.config)
	}
	wait()
	t.Logf("kill -9: %d times", kills)
	b.verify(t)
	a.terminate(t)
}

func TestAgentTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBank(t, servertest.OwnPostgres(t), servertest.Redis(t))
	a := startAgent(t, b.config)
	wait := b.load(t, pgbenchDuration(t))
	time.Sleep(time.Second)
	a.terminate(t)
	time.Sleep(time.Second) // nobody is there; writes go on
	a = startAgent(t, b.config)
	wait()
	b.verify(t)
	a.terminate(t)
}

func TestRedisOutageUnderLoad(t *testing.T) {
	t.Parallel()
	// Redis keeps what it acknowledged, and the agent repeats nothing of it: each
	// bump has to come through by itself.
	redis := servertest.OwnRedis(t, "appendonly yes", "appendfsync always")
	b := newBank(t, servertest.OwnPostgres(t), redis.URL(), "replay_window: 0s")
	a := startAgent(t, b.config)
	wait := b.load(t, pgbenchDuration(t))

	time.Sleep(500 * time.Millisecond)
	require.NoError(t, redis.Kill())
	time.Sleep(time.Second)
	require.NoError(t, redis.Start(t.Context()))
	time.Sleep(500 * time.Millisecond)
	require.NoError(t, redis.Pause())
	time.Sleep(1500 * time.Millisecond)
	require.NoError(t, redis.Resume())

	wait() // no statement failed meanwhile
	b.verify(t)
	a.terminate(t)
}

func TestPostgresRestartedUnderTheAgent(t *testing.T) {
	t.Parallel()
	postgres := servertest.OwnPostgres(t)
	s := newStack(t, postgres.URL(), servertest.Redis(t), movieRules)
	s.exec(t, movieSchema)
	succeed(t, "migrate", "up", "-c", s.config)
	a := startAgent(t, s.config)
	for name, end := range map[string]func() error{"stop": postgres.Stop, "immediate": postgres.StopImmediate, "kill": postgres.Kill} {
		s.exec(t, "UPDATE movies SET title = 'before ' || $1::text WHERE id = 1", name)
		before := s.awaitBump(t, "movie:1", 0)
		require.NoError(t, end())
		require.NoError(t, postgres.Start(t.Context()))
		s.db.Reset()
		s.exec(t, "UPDATE movies SET title = 'after ' || $1::text WHERE id = 1", name)
		s.awaitBump(t, "movie:1", before)
	}
	a.terminate(t)
}
