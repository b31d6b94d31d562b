package servertest

import (
	"context"
	"io"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/internal/localserver"
)

const scanCount = 1000

var sharedRedis = sharedServer{
	env: RedisURLEnv,
	start: func(ctx context.Context) (string, io.Closer, error) {
		server, err := localserver.StartRedis(ctx, localserver.RedisConfig{})
		if err != nil {
			return "", nil, err
		}
		return server.URL(), server, nil
	},
}

// Redis returns the URL of the shared server. Tests name their keys by [Prefix]
// and touch no others.
func Redis(tb testing.TB) string {
	tb.Helper()
	return sharedRedis.get(tb)
}

// Prefix returns a text that no other test uses, to begin the names of keys
// and tokens with. It contains neither a colon nor a character that is special
// in patterns. Keys of the shared Redis that contain it are deleted when the
// test ends.
func Prefix(tb testing.TB) string {
	tb.Helper()
	prefix := "t" + random() + "_"
	tb.Cleanup(func() {
		// Only where the shared server was used by now: most tests of names need none.
		if url := os.Getenv(RedisURLEnv); url != "" || sharedRedis.started() {
			if err := deleteMatching(sharedRedis.get(tb), "*"+prefix+"*"); err != nil {
				tb.Errorf("servertest: delete the keys of %s: %v", prefix, err)
			}
		}
	})
	return prefix
}

func deleteMatching(url, pattern string) error {
	options, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	for cursor := uint64(0); ; {
		var keys []string
		if keys, cursor, err = client.Scan(ctx, cursor, pattern, scanCount).Result(); err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := client.Unlink(ctx, keys...).Err(); err != nil {
				return err
			}
		}
		if cursor == 0 {
			return nil
		}
	}
}

// OwnRedis starts a server for this test alone, which may do to it what it
// likes. It needs local binaries. Settings are lines of redis.conf.
func OwnRedis(tb testing.TB, settings ...string) *localserver.Redis {
	tb.Helper()
	return OwnRedisWith(tb, localserver.RedisConfig{Settings: settings})
}

// OwnRedisWith is [OwnRedis] with everything that can be configured.
func OwnRedisWith(tb testing.TB, cfg localserver.RedisConfig) *localserver.Redis {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := localserver.StartRedis(ctx, cfg)
	unavailable(tb, err, RedisURLEnv)
	own(tb, server)
	return server
}
