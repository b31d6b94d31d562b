package icache

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// errTest stands for an error of an application.
var errTest = errors.New("application error")

// dial connects to a Redis for the time of the test.
func dial(tb testing.TB, url string) *redis.Client {
	tb.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(tb, err)
	rdb := redis.NewClient(o)
	tb.Cleanup(func() { require.NoError(tb, rdb.Close()) })
	return rdb
}

// newCache returns a cache with keys of its own in the shared Redis.
func newCache(tb testing.TB, opts ...Option) (*Cache, *redis.Client) {
	tb.Helper()
	rdb := dial(tb, servertest.Redis(tb))
	return cacheOn(tb, rdb, append([]Option{WithPrefix(servertest.Prefix(tb) + ":")}, opts...)...), rdb
}

// cacheOn returns a cache on rdb with a timeout for slow machines.
func cacheOn(tb testing.TB, rdb redis.UniversalClient, opts ...Option) *Cache {
	tb.Helper()
	c, err := New(rdb, append([]Option{WithTimeout(2 * time.Second)}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Close()) })
	return c
}

// constant is a computation that yields v.
func constant[T any](v T) func(context.Context) (T, error) {
	return func(context.Context) (T, error) { return v, nil }
}

// never is a computation that must not run.
func never[T any](tb testing.TB) func(context.Context) (T, error) {
	tb.Helper()
	return func(context.Context) (T, error) {
		var zero T
		tb.Error("computed what should have been cached")
		return zero, nil
	}
}

// recorder collects events.
type recorder struct{ ch chan Event }

func newRecorder() *recorder { return &recorder{make(chan Event, 1000)} }

func (r *recorder) option() Option {
	return WithHooks(Hooks{Fetch: func(_ context.Context, e Event) { r.ch <- e }})
}

func (r *recorder) next(tb testing.TB) Event {
	tb.Helper()
	select {
	case e := <-r.ch:
		return e
	case <-time.After(10 * time.Second):
		tb.Fatal("no event")
		return Event{}
	}
}
