package config_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func TestRedis_Options(t *testing.T) {
	t.Parallel()

	for url, want := range map[config.URL]redis.UniversalOptions{
		"redis://localhost:6379/0":                {Addrs: []string{"localhost:6379"}},
		"redis://":                                {Addrs: []string{"localhost:6379"}},
		"redis://[::1]/2":                         {Addrs: []string{"[::1]:6379"}, DB: 2},
		"redis://me:p%40ss@cache?dial_timeout=2s": {Addrs: []string{"cache:6379"}, Username: "me", Password: "p@ss", DialTimeout: 2 * time.Second},
		"redis://:p@ss@cache":                     {Addrs: []string{"cache:6379"}, Password: "p@ss"},
		"unix://:pw@/run/redis.sock?db=1":         {Addrs: []string{"/run/redis.sock"}, Password: "pw", DB: 1},
		"redis://a,b:7000":                        {Addrs: []string{"a:6379", "b:7000"}, IsClusterMode: true},
		"redis-cluster://one":                     {Addrs: []string{"one:6379"}, IsClusterMode: true},
		"redis-cluster://:pw@[::1]:1,[::2]:2/0":   {Addrs: []string{"[::1]:1", "[::2]:2"}, Password: "pw", IsClusterMode: true},
		"redis-sentinel://me:pw@a,b:5/3?master=m&sentinel_username=s&sentinel_password=t&pool_size=7": {
			Addrs: []string{"a:26379", "b:5"}, Username: "me", Password: "pw", DB: 3, MasterName: "m", SentinelUsername: "s", SentinelPassword: "t", PoolSize: 7,
		},
	} {
		got, err := config.Redis{URL: url}.Options()
		require.NoError(t, err, string(url))
		require.Equal(t, want, *got, string(url))
		require.NoError(t, redis.NewUniversalClient(got).Close())
	}

	got, err := config.Redis{URL: "rediss://cache"}.Options()
	require.NoError(t, err)
	require.Equal(t, "cache", got.TLSConfig.ServerName)
	got, err = config.Redis{URL: "rediss-cluster://a,b?skip_verify=true"}.Options()
	require.NoError(t, err)
	require.Empty(t, got.TLSConfig.ServerName, "each host is verified by its own name")
	require.True(t, got.TLSConfig.InsecureSkipVerify)
	require.True(t, got.IsClusterMode)
}

func TestRedis_Options_Clients(t *testing.T) {
	t.Parallel()

	for url, want := range map[config.URL]any{
		"redis://a":                   &redis.Client{},
		"redis-cluster://a":           &redis.ClusterClient{},
		"redis-sentinel://a?master=m": &redis.Client{},
		"redis://a,b":                 &redis.ClusterClient{},
	} {
		opts, err := config.Redis{URL: url}.Options()
		require.NoError(t, err)
		client := redis.NewUniversalClient(opts)
		require.IsType(t, want, client, string(url))
		require.NoError(t, client.Close())
	}

	opts, err := config.Redis{URL: config.URL(servertest.Redis(t))}.Options()
	require.NoError(t, err)
	client := redis.NewUniversalClient(opts)
	require.NoError(t, client.Ping(t.Context()).Err())
	require.NoError(t, client.Close())
}

func TestRedis_Options_Errors(t *testing.T) {
	t.Parallel()

	for url, want := range map[config.URL]string{
		"":                         "redis.url is not a Redis URL",
		"localhost:6379":           "redis.url is not a Redis URL",
		"http://localhost":         "redis.url has a scheme that is not known",
		"redis-ring://a":           "redis.url has a scheme that is not known",
		"redis-://a":               "redis.url has a scheme that is not known",
		"redis-sentinel://a":       "redis.url does not name the master that the sentinels watch",
		"redis-cluster://a/1":      "redis.url names a database, but a cluster has only database 0",
		"redis://a/x":              `redis.url is not valid: invalid database number: "x"`,
		"redis://a/1/2":            "redis.url is not valid: invalid URL path: /1/2",
		"redis://a?pool_size=many": `redis.url is not valid: invalid pool_size number: strconv.Atoi: parsing "many": invalid syntax`,
		"redis://a,":               "redis.url has a host that is not host or host:port",
		"redis://a,b:x":            "redis.url has a host that is not host or host:port",
		"redis://a:port":           "redis.url is not a valid URL",
		"unix://":                  "redis.url is not valid: empty unix socket path",
	} {
		_, err := config.Redis{URL: url}.Options()
		require.ErrorContains(t, err, want+" (write redis://host:6379/0, ", string(url))
		var bad *config.Error
		require.ErrorAs(t, err, &bad)
	}
}

func TestRedis_ForeignReaders(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		tokenKey, readers string
		want              bool
	}{
		{"icache:t:{token}", "auto", false},
		{"icache:t:{token}", "any", true},
		{"shop:1:{token}", "auto", true},
		{"shop:1:{token}", "icache", false},
	} {
		cfg := config.Default()
		require.False(t, cfg.Redis.ForeignReaders())
		cfg.Redis.TokenKey, cfg.Redis.Readers = tc.tokenKey, tc.readers
		require.NoError(t, cfg.Validate())
		require.Equal(t, tc.want, cfg.Redis.ForeignReaders(), tc)
	}
	cfg := config.Default()
	cfg.Redis.Readers = "all"
	require.ErrorContains(t, cfg.Validate(), `unknown redis.readers "all" (did you mean "any"?)`)
}
