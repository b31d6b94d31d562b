package localserver_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/icache-go/icache-agent/internal/localserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startPostgres(t *testing.T, cfg localserver.PostgresConfig) *localserver.Postgres {
	t.Helper()
	server, err := localserver.StartPostgres(t.Context(), cfg)
	if errors.Is(err, localserver.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

func startRedis(t *testing.T, cfg localserver.RedisConfig) *localserver.Redis {
	t.Helper()
	server, err := localserver.StartRedis(t.Context(), cfg)
	if errors.Is(err, localserver.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return value
}

func exec(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestPostgresKeepsDataAcrossEveryWayToEnd(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localserver.PostgresConfig{Settings: []string{"max_prepared_transactions=7"}})
	require.Equal(t, "7", query[string](t, server.URL(), "SHOW max_prepared_transactions"))
	exec(t, server.URL(), "CREATE TABLE ends (how text)")

	url := server.URL()
	for name, end := range map[string]func() error{
		"stop": server.Stop, "immediate": server.StopImmediate, "kill": server.Kill,
	} {
		exec(t, url, "INSERT INTO ends VALUES ('"+name+"')")
		require.NoError(t, end(), name)
		require.Zero(t, server.PID(), name)
		require.NoError(t, end(), "ending twice is no error")
		_, err := pgx.Connect(t.Context(), url)
		require.Error(t, err, name)

		require.NoError(t, server.Start(t.Context()), name)
		require.Equal(t, url, server.URL(), name)
	}
	require.EqualValues(t, 3, query[int64](t, url, "SELECT count(*) FROM ends"))
	require.ErrorContains(t, server.Start(t.Context()), "already running")
}

func TestPostgresPauseStopsOpenSessionsToo(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localserver.PostgresConfig{})
	conn, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer conn.Close(context.Background())

	require.NoError(t, server.Pause())
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(context.Background()) }()
	select {
	case err := <-answered:
		t.Fatalf("a paused server answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, server.Resume())
	require.NoError(t, <-answered)

	require.NoError(t, server.Pause())
	require.NoError(t, server.Stop(), "a paused server can be stopped")
	require.ErrorContains(t, server.Pause(), "not running")
	require.ErrorContains(t, server.Resume(), "not running")
}

func TestPostgresStandby(t *testing.T) {
	t.Parallel()
	primary := startPostgres(t, localserver.PostgresConfig{})
	exec(t, primary.URL(), "CREATE TABLE t AS SELECT 42 AS answer")
	standby := startPostgres(t, localserver.PostgresConfig{StandbyOf: primary})
	require.True(t, query[bool](t, standby.URL(), "SELECT pg_is_in_recovery()"))
	require.EqualValues(t, 42, query[int32](t, standby.URL(), "SELECT answer FROM t"))

	require.NoError(t, primary.Kill())
	require.NoError(t, standby.Promote(t.Context()))
	exec(t, standby.URL(), "INSERT INTO t VALUES (43)")
}

func TestPostgresErrorShowsTheLog(t *testing.T) {
	t.Parallel()
	startPostgres(t, localserver.PostgresConfig{}) // skips the test where there is none
	_, err := localserver.StartPostgres(t.Context(), localserver.PostgresConfig{Settings: []string{"no_such_setting=1"}})
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
}

func TestPostgresStartEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := localserver.StartPostgres(ctx, localserver.PostgresConfig{})
	if errors.Is(err, localserver.ErrNotInstalled) {
		t.Skip(err)
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestCloseRemovesEverything(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localserver.PostgresConfig{})
	home := filepath.Dir(server.DataDir())
	require.DirExists(t, home)
	require.NoError(t, server.Close())
	require.NoDirExists(t, home)
	_, err := net.DialTimeout("tcp", server.Addr(), time.Second)
	require.Error(t, err)
	require.NoError(t, server.Close())
}

func redisClient(t *testing.T, server *localserver.Redis) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	options.MaxRetries = -1
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	return client
}

func TestRedisStopKillPause(t *testing.T) {
	t.Parallel()
	server := startRedis(t, localserver.RedisConfig{
		Password: `p@ss/"word`,
		Settings: []string{"appendonly yes", "appendfsync always"},
	})
	client := redisClient(t, server)
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())

	for name, end := range map[string]func() error{"stop": server.Stop, "kill": server.Kill} {
		require.NoError(t, end(), name)
		require.Error(t, client.Ping(t.Context()).Err(), name)
		require.NoError(t, server.Start(t.Context()), name)
		require.Equal(t, "v", client.Get(t.Context(), "k").Val(), name)
	}

	require.NoError(t, server.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Error(t, client.WithTimeout(200*time.Millisecond).Ping(ctx).Err())
	require.NoError(t, server.Resume())
	require.NoError(t, client.Ping(t.Context()).Err())
}

func TestRedisReplicaAndSentinel(t *testing.T) {
	t.Parallel()
	primary := startRedis(t, localserver.RedisConfig{})
	replica := startRedis(t, localserver.RedisConfig{ReplicaOf: primary})
	require.NoError(t, redisClient(t, primary).Set(t.Context(), "k", "v", 0).Err())
	require.Eventually(t, func() bool {
		return redisClient(t, replica).Get(t.Context(), "k").Val() == "v"
	}, 10*time.Second, 20*time.Millisecond)

	host, port, err := net.SplitHostPort(primary.Addr())
	require.NoError(t, err)
	sentinel := startRedis(t, localserver.RedisConfig{Sentinel: true, Settings: []string{
		"sentinel monitor main " + host + " " + port + " 1",
		"sentinel down-after-milliseconds main 200",
	}})
	failover := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{sentinel.Addr()}})
	defer failover.Close()
	require.Equal(t, "v", failover.Get(t.Context(), "k").Val())
}

func TestRedisErrorShowsTheLog(t *testing.T) {
	t.Parallel()
	startRedis(t, localserver.RedisConfig{})
	_, err := localserver.StartRedis(t.Context(), localserver.RedisConfig{Settings: []string{"no-such-setting 1"}})
	require.ErrorContains(t, err, "no-such-setting")
}
