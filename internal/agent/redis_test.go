package agent_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/listener"
)

// title fetches a fragment that holds the title of film 1.
func (b *bundle) title(t *testing.T) string {
	got, err := icache.Fetch(t.Context(), b.cache, "title", []string{"movie:1"}, func(ctx context.Context) (s string, err error) {
		return s, b.db.QueryRow(ctx, "SELECT title FROM movies WHERE id = 1").Scan(&s)
	})
	require.NoError(t, err)
	return got
}

// Redis comes back with a snapshot of before the last bumps while there is no
// agent that knows what they were.
func TestRedisGoesBackWhileTheAgentIsAway(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	b := setup(t, options{redisURL: server.URL()})
	require.Equal(t, "Heat", b.title(t))
	require.NoError(t, b.rdb.Save(t.Context()).Err())
	b.rises(t, "UPDATE movies SET title = 'Ronin' WHERE id = 1", []string{"movie:1"})
	require.Equal(t, "Ronin", b.title(t))
	require.NoError(t, b.stop())
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start(t.Context()))
	require.Eventually(t, func() bool { return b.rdb.Ping(context.Background()).Err() == nil }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, "Heat", b.title(t), "the snapshot is served, as long as there is no agent")
	b.start(t, rules())
	require.Eventually(t, func() bool { return b.title(t) == "Ronin" }, 10*time.Second, 5*time.Millisecond)

	// The same Redis and no change: a restart of the agent outdates nothing.
	before := b.values(t, "*", "movie:1")
	require.NoError(t, b.stop())
	b.start(t, rules())
	b.rises(t, "UPDATE movies SET title = 'Alien 3' WHERE id = 2", []string{"movie:2"})
	require.Equal(t, before, b.values(t, "*", "movie:1"))
	require.NoError(t, b.stop())
}

// The same with an agent that sees it, and has bumped nothing for longer than
// the replay window.
func TestRedisGoesBackFurtherThanTheReplayWindow(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	b := setup(t, options{redisURL: server.URL()})
	require.NoError(t, b.stop())
	a, err := agent.New(agent.Config{
		Postgres: listener.Config{URL: b.url}, Redis: b.rdb, CacheOptions: b.cacheOptions, Rules: rules(), ReplayWindow: 100 * time.Millisecond,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	require.Eventually(t, func() bool { return a.Status().Ready && a.Status().Postgres.Leader }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, "Heat", b.title(t))
	require.NoError(t, b.rdb.Save(t.Context()).Err())
	b.rises(t, "UPDATE movies SET title = 'Ronin' WHERE id = 1", []string{"movie:1"})
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start(t.Context()))
	require.Eventually(t, func() bool {
		var s string
		s, err := icache.Fetch(t.Context(), b.cache, "title", []string{"movie:1"}, func(ctx context.Context) (s string, err error) {
			conn, err := pgx.Connect(ctx, b.url)
			if err != nil {
				return "", err
			}
			defer conn.Close(ctx)
			return s, conn.QueryRow(ctx, "SELECT title FROM movies WHERE id = 1").Scan(&s)
		})
		return err == nil && s == "Ronin" && b.values(t, "*")["*"] > 0
	}, 20*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-done)
}

func TestWaitForReplicas(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	b := setup(t, options{redisURL: server.URL()})
	require.NoError(t, b.stop())
	a, err := agent.New(agent.Config{
		Postgres: listener.Config{URL: b.url}, Redis: b.rdb, CacheOptions: b.cacheOptions, Rules: rules(), WaitReplicas: 1,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	require.Eventually(t, func() bool { return a.Status().Postgres.Leader }, 20*time.Second, 10*time.Millisecond)
	b.exec(t, "UPDATE movies SET title = 'Ronin' WHERE id = 1")
	require.Eventually(t, func() bool { return a.Status().Postgres.HandlerErrors > 0 }, 20*time.Second, 10*time.Millisecond)
	require.Contains(t, a.Status().Postgres.LastError, "reached 0 replicas")
	require.Zero(t, a.Status().Postgres.Changes, "the change is not done with")
	u, err := url.Parse(server.URL())
	require.NoError(t, err)
	replica := servertest.OwnRedis(t, "replicaof 127.0.0.1 "+u.Port())
	require.Eventually(t, func() bool { return a.Status().Postgres.Changes == 1 }, 30*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-done)
	o, err := redis.ParseURL(replica.URL())
	require.NoError(t, err)
	copied := redis.NewClient(o)
	defer copied.Close()
	r, err := icache.New(copied, b.cacheOptions...)
	require.NoError(t, err)
	defer r.Close()
	v, err := r.Values(t.Context(), "movie:1")
	require.NoError(t, err)
	require.Positive(t, v["movie:1"], "a replica has it")
}
