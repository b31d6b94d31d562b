package integration

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAgentKilledWhileChangesSettle: the second bump of a rule with settle comes
// after kill -9, too. Tokens hold the time of their last bump, on the clock of
// Redis, so it can be seen that there was one when the time was over.
func TestAgentKilledWhileChangesSettle(t *testing.T) {
	t.Parallel()
	const settle = 3 * time.Second
	s := sharedStack(t, `  - {table: movies, tokens: ["movie:{id}"], settle: 3s}`+"\n")
	s.exec(t, "CREATE TABLE movies (id int PRIMARY KEY, title text); INSERT INTO movies VALUES (1, 'Heat')")
	succeed(t, "migrate", "up", "-c", s.config)
	a := startAgent(t, s.config)
	require.Eventually(t, func() bool { return query[int](t, s, "SELECT count(*) FROM icache.cursor") == 1 },
		readyTimeout, 10*time.Millisecond, "the reset of the first start has settled, and the cursor is saved")

	var before uint64
	within := 0 // kills that came in time
	for kill := 0; within < 2; kill++ {
		require.Less(t, kill, 10, "this machine is too slow to kill an agent %s after a change", settle)
		s.exec(t, "UPDATE movies SET title = title || '!' WHERE id = 1")
		committed := s.redisTime(t)
		s.awaitBump(t, "movie:1", before)
		time.Sleep(rand.N(settle / 2))
		a.kill()
		if s.redisTime(t) < committed+uint64(settle.Microseconds()) {
			within++
			require.Less(t, s.value(t, "movie:1"), committed+uint64(settle.Microseconds()))
		}
		a = startAgent(t, s.config)
		before = s.awaitBump(t, "movie:1", committed+uint64(settle.Microseconds())-1)
	}
	a.terminate(t)
}

// redisTime is the time by the clock of Redis, in µs, as in a token.
func (s *stack) redisTime(t *testing.T) uint64 {
	t.Helper()
	now, err := s.rdb.Time(t.Context()).Result()
	require.NoError(t, err)
	return uint64(now.UnixMicro())
}
