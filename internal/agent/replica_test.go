package agent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
)

func settling(after time.Duration, replicas bool) []mapping.Rule {
	r := rules()
	for i := range r {
		r[i].Settle, r[i].SettleReplicas = after, replicas
	}
	return r
}

// bumped waits until a token is greater than v and returns its value.
func (b *bundle) bumped(t *testing.T, token string, v uint64) uint64 {
	t.Helper()
	var now uint64
	require.Eventually(t, func() bool { now = b.values(t, token)[token]; return now > v }, 20*time.Second, 2*time.Millisecond)
	return now
}

func TestSettleBumpsOnceMore(t *testing.T) {
	t.Parallel()
	const after = 700 * time.Millisecond
	b := setup(t, options{rules: settling(after, false)})
	// The first start resets everything, and that settles too.
	require.Eventually(t, func() bool { return !b.agent.Status().Postgres.CursorSaved.IsZero() }, 20*time.Second, 10*time.Millisecond)
	began := time.Now()
	b.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	first := b.bumped(t, "movie:1", 0)
	require.Less(t, time.Since(began), after)
	second := b.bumped(t, "movie:1", first)
	took := time.Since(began)
	require.GreaterOrEqual(t, took, after)
	t.Logf("bumped again after %s", took)
	time.Sleep(2 * after)
	require.Equal(t, second, b.values(t, "movie:1")["movie:1"], "and that is that")

	// An agent that stops meanwhile leaves the second bump to its successor.
	b.exec(t, "UPDATE movies SET title = 'Heat?' WHERE id = 1")
	first = b.bumped(t, "movie:1", second)
	require.NoError(t, b.stop())
	require.Equal(t, first, b.values(t, "movie:1")["movie:1"])
	began = time.Now()
	b.start(t, settling(after, false))
	again := b.bumped(t, "movie:1", first) // applied again
	_ = b.bumped(t, "movie:1", again)      // and settled
	require.GreaterOrEqual(t, time.Since(began), after)
	require.EqualValues(t, 0, b.agent.Status().Postgres.Resets)
}

// What a reader of a standby caches while the standby lags does not outlast the lag.
func TestSettleReplicas(t *testing.T) {
	t.Parallel()
	primary := servertest.OwnPostgres(t, "wal_level=replica")
	standby := servertest.OwnPostgresWith(t, localserver.PostgresConfig{StandbyOf: primary, Settings: []string{"wal_receiver_status_interval=1s"}})
	b := setup(t, options{postgresURL: primary.URL(), rules: settling(0, true)})
	replica, err := pgx.Connect(t.Context(), standby.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = replica.Close(context.Background()) })
	title := func() string {
		t.Helper()
		got, err := icache.Fetch(t.Context(), b.cache, "title", []string{"movie:1"}, func(ctx context.Context) (string, error) {
			var s string
			err := replica.QueryRow(ctx, "SELECT title FROM movies WHERE id = 1").Scan(&s)
			return s, err
		})
		require.NoError(t, err)
		return got
	}
	settled := func() bool {
		s := b.agent.Status().Postgres
		return !s.CursorSaved.IsZero()
	}
	require.Eventually(t, func() bool {
		var n int
		return replica.QueryRow(t.Context(), "SELECT count(*) FROM movies").Scan(&n) == nil && n == 2
	}, 20*time.Second, 20*time.Millisecond)
	require.Eventually(t, settled, 40*time.Second, 20*time.Millisecond, "the reset of the first start has settled")

	_, err = replica.Exec(t.Context(), "SELECT pg_wal_replay_pause()")
	require.NoError(t, err)
	require.Equal(t, "Heat", title())
	v := b.values(t, "movie:1")["movie:1"]
	b.exec(t, "UPDATE movies SET title = 'Collateral' WHERE id = 1")
	v = b.bumped(t, "movie:1", v)
	require.Equal(t, "Heat", title(), "the standby lags, and the old title is cached again")
	time.Sleep(3 * time.Second)
	require.Equal(t, v, b.values(t, "movie:1")["movie:1"], "the standby has not replayed it")
	require.Equal(t, "Heat", title())

	began := time.Now()
	_, err = replica.Exec(t.Context(), "SELECT pg_wal_replay_resume()")
	require.NoError(t, err)
	b.bumped(t, "movie:1", v)
	t.Logf("bumped again %s after the standby went on", time.Since(began))
	require.Equal(t, "Collateral", title())

	// Without a standby there is nothing to wait for.
	require.NoError(t, standby.Stop())
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, b.db.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_replication").Scan(&n))
		return n == 0
	}, 20*time.Second, 20*time.Millisecond)
	v = b.values(t, "movie:2")["movie:2"]
	b.exec(t, "UPDATE movies SET title = 'Aliens' WHERE id = 2")
	v = b.bumped(t, "movie:2", v)
	b.bumped(t, "movie:2", v)
}

// A foreign key must be followed where the change was made: a standby named
// first may not have what it points to.
func TestLookupsGoToThePrimary(t *testing.T) {
	t.Parallel()
	primary := servertest.OwnPostgres(t, "wal_level=replica")
	standby := servertest.OwnPostgresWith(t, localserver.PostgresConfig{StandbyOf: primary})
	hosts := fmt.Sprintf("%s,%s", standby.Addr(), primary.Addr())
	b := setup(t, options{postgresURL: primary.URL(), agentURL: strings.Replace(primary.URL(), primary.Addr(), hosts, 1)})
	replica, err := pgx.Connect(t.Context(), standby.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = replica.Close(context.Background()) })
	_, err = replica.Exec(t.Context(), "SELECT pg_wal_replay_pause()")
	require.NoError(t, err)
	b.exec(t, "INSERT INTO movies VALUES (3, 2, 'The Thing')")
	b.rises(t, "INSERT INTO ratings VALUES (3, 7, 5)", []string{"movie:3", "rated-genre:2"}, "rated-genre:*")
}
