package servertest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func TestDatabaseLivesAsLongAsItsTest(t *testing.T) {
	t.Parallel()
	outer := servertest.Postgres(t)
	var inner string
	t.Run("inner", func(t *testing.T) {
		inner = servertest.Postgres(t)
		require.NotEqual(t, outer, inner)
		conn, err := pgx.Connect(t.Context(), inner)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "CREATE TABLE t (id int)")
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close(t.Context()) })
	})
	_, err := pgx.Connect(t.Context(), inner)
	require.ErrorContains(t, err, "does not exist")

	conn, err := pgx.Connect(t.Context(), outer)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func TestPrefixIsCleared(t *testing.T) {
	t.Parallel()
	options, err := redis.ParseURL(servertest.Redis(t))
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()

	var key string
	t.Run("inner", func(t *testing.T) {
		key = "icache:t:" + servertest.Prefix(t) + "movie:1"
		require.NoError(t, client.Set(t.Context(), key, 1, 0).Err())
	})
	require.Zero(t, client.Exists(t.Context(), key).Val())
}

func TestOwnServersAreApart(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, servertest.Redis(t), servertest.OwnRedis(t, "maxmemory 10mb").URL())
	require.NotEqual(t, servertest.Postgres(t), servertest.OwnPostgres(t, "max_prepared_transactions=5").URL())
}
