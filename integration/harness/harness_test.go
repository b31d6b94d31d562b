package harness_test

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/integration/harness"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// These tests set the environment, so none of them is parallel.

func usable(t *testing.T, servers *harness.Servers) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), servers.Postgres.URL)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var super bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT usesuper FROM pg_user WHERE usename = current_user").Scan(&super))
	require.True(t, super)

	options, err := redis.ParseURL(servers.Redis.URL)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	require.NoError(t, client.Ping(t.Context()).Err())
}

func TestEveryRung(t *testing.T) {
	forced := harness.Source(os.Getenv(harness.ServersEnv))
	for _, source := range []harness.Source{harness.FromDocker, harness.FromLocal} {
		t.Run(string(source), func(t *testing.T) {
			t.Setenv(harness.ServersEnv, string(source))
			var log bytes.Buffer
			servers, err := harness.Start(t.Context(), &log)
			if err != nil && forced != source {
				t.Skip(err) // a machine need not have them all
			}
			require.NoError(t, err)
			defer func() { require.NoError(t, servers.Close()) }()
			require.Equal(t, source, servers.Postgres.Source)
			require.Equal(t, source, servers.Redis.Source)
			usable(t, servers)

			t.Setenv(servertest.PostgresURLEnv, servers.Postgres.URL)
			t.Setenv(servertest.RedisURLEnv, servers.Redis.URL)
			t.Setenv(harness.ServersEnv, "")
			again, err := harness.Start(t.Context(), &log)
			require.NoError(t, err)
			require.Equal(t, harness.FromEnv, again.Postgres.Source)
			require.Equal(t, servers.Redis.URL, again.Redis.URL)
			require.NoError(t, again.Close())
			usable(t, servers) // servers from the environment are not ours to stop
			require.Empty(t, log.String())
			require.NotContains(t, again.String(), servers.Postgres.URL)
		})
	}
}

func TestForcedEnvironmentMustBeSet(t *testing.T) {
	t.Setenv(harness.ServersEnv, "env")
	t.Setenv(servertest.PostgresURLEnv, "")
	_, err := harness.Start(context.Background(), &bytes.Buffer{})
	require.ErrorContains(t, err, "ICACHE_TEST_POSTGRES_URL is not set")
}

func TestUnknownSource(t *testing.T) {
	t.Setenv(harness.ServersEnv, "kubernetes")
	_, err := harness.Start(context.Background(), &bytes.Buffer{})
	require.ErrorContains(t, err, "want env, docker or local")
}
