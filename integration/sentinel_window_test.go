package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// TestSentinelExposure measures what asynchronous replication costs: a bump that
// the old master acknowledged and the promoted replica never saw. From the
// promotion until the agent's replay an outdated fragment is served.
func TestSentinelExposure(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	g := &ground{t: t}
	url := withSentinel(false)(g)
	master, replica := g.group.nodes[0], g.group.nodes[1]
	role := strings.Trim(servertest.Prefix(t), "_") + "_writer"
	s := makeStack(t, servertest.Postgres(t), url, `  - {table: movies, tokens: ["movie:{id}"]}`+"\n", "writer_role: "+role)
	s.exec(t, "CREATE TABLE movies (id int PRIMARY KEY, title text); INSERT INTO movies VALUES (1, 'old')")
	succeed(t, "migrate", "up", "-c", s.config)
	a := startAgent(t, s.config)
	fetch := func() (string, error) {
		return icache.Fetch(ctx, s.cache, "page", []string{"movie:1"}, func(_ context.Context) (title string, err error) {
			err = s.db.QueryRow(ctx, "SELECT title FROM movies WHERE id = 1").Scan(&title)
			return title, err
		})
	}
	requireTitle := func(want string) {
		t.Helper()
		got, err := fetch()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Eventually(t, func() bool { return query[int](t, s, "SELECT count(*) FROM icache.cursor") == 1 },
		readyTimeout, 10*time.Millisecond, "the reset of the first start is over")
	requireTitle("old")
	before := s.value(t, "movie:1")
	key := strings.ReplaceAll(s.tokenKey, "{token}", "movie:1")
	onReplica := func() (value uint64) {
		_ = direct(replica, func(c *redis.Client) (err error) { value, err = c.Get(ctx, key).Uint64(); return err })
		return value
	}

	// The replica has the fragment and its token, and then nothing that follows.
	require.Eventually(t, func() bool { return onReplica() == before }, readyTimeout, time.Millisecond)
	require.NoError(t, direct(master, func(c *redis.Client) error {
		if err := c.Do(ctx, "ACL", "SETUSER", "default", "-psync", "-sync").Err(); err != nil {
			return err
		}
		return c.ClientKillByFilter(ctx, "TYPE", "replica").Err()
	}))
	s.exec(t, "UPDATE movies SET title = 'new' WHERE id = 1")
	acked := s.awaitBump(t, "movie:1", before)
	requireTitle("new")
	require.Equal(t, before, onReplica(), "the replica has the bump after all")

	require.NoError(t, master.Kill())
	killed := time.Now()
	// A Fetch may have to wait for the old master's connections to fail. The
	// events on the new one are watched apart from it, or they would be seen late.
	var promoted, replayed, lastStale time.Time
	stale := 0
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			case <-time.After(time.Millisecond):
			}
			title, err := fetch()
			if err != nil {
				done <- err
				return
			}
			if title == "old" {
				stale++
				lastStale = time.Now()
			}
		}
	}()
	for deadline := killed.Add(time.Minute); replayed.IsZero() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if promoted.IsZero() && g.isMaster(replica) {
			promoted = time.Now()
		}
		if onReplica() > acked {
			replayed = time.Now()
		}
	}
	close(stop)
	require.NoError(t, <-done, "a Fetch goes on during the failover")
	require.False(t, promoted.IsZero(), "the replica is not promoted")
	require.False(t, replayed.IsZero(), "the agent does not bump again what was lost")
	require.Eventually(t, func() bool { title, err := fetch(); return err == nil && title == "new" }, readyTimeout, time.Millisecond)
	served := "none was"
	if stale > 0 {
		served = "the last " + lastStale.Sub(promoted).Round(time.Millisecond).String() + " after the promotion"
	}
	t.Logf("promoted %v after the kill, bumped again %v after the promotion; %d old pages served, %s",
		promoted.Sub(killed).Round(time.Millisecond), replayed.Sub(promoted).Round(time.Millisecond), stale, served)
	require.Less(t, replayed.Sub(promoted), readyTimeout, "from the promotion to the replay")
	a.terminate(t)
}
