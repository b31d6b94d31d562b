package icachetest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icachetest"
	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// fakeTB is a test that may fail.
type fakeTB struct {
	testing.TB
	message string
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Fatal(args ...any) {
	f.message = fmt.Sprint(args...)
	runtime.Goexit()
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure runs test and returns the message with which it failed, or "".
func failure(t *testing.T, test func(tb testing.TB)) string {
	t.Helper()
	f := &fakeTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	return f.message
}

// fragment returns a load function for a fragment.
func fragment(t *testing.T, c *icache.Cache, key string, tokens ...string) func() error {
	t.Helper()
	return func() error {
		_, err := icache.Fetch(t.Context(), c, key, tokens, func(context.Context) (string, error) { return key, nil })
		return err
	}
}

func incr(t *testing.T, c *icache.Cache, tokens ...string) func() error {
	t.Helper()
	return func() error { return c.Incr(t.Context(), tokens...) }
}

func nothing() error { return nil }

func TestHitAndMiss(t *testing.T) {
	t.Parallel()
	c := icachetest.New(t)
	page := fragment(t, c, "page", "movie:42")
	require.Contains(t, failure(t, func(tb testing.TB) { icachetest.RequireHit(tb, c, page) }), `"page": miss (absent)`)
	require.Contains(t, failure(t, func(tb testing.TB) { icachetest.RequireMiss(tb, c, page) }), `"page": hit`)
	icachetest.RequireHit(t, c, page)
	require.NoError(t, c.Incr(t.Context(), "movie:42"))
	icachetest.RequireMiss(t, c, page)

	for name, check := range map[string]func(testing.TB, *icache.Cache, func() error){
		"hit": icachetest.RequireHit, "miss": icachetest.RequireMiss,
	} {
		require.Contains(t, failure(t, func(tb testing.TB) { check(tb, c, nothing) }), "has fetched nothing", name)
		broken := func() error { return errors.New("broken") }
		require.Contains(t, failure(t, func(tb testing.TB) { check(tb, c, broken) }), "broken", name)
	}
}

func TestDependsOnIncludesNestedFragments(t *testing.T) {
	t.Parallel()
	c := icachetest.New(t)
	page := func() error {
		_, err := icache.Fetch(t.Context(), c, "page", []string{"movies"}, func(ctx context.Context) (string, error) {
			icache.Depend(ctx, "user:7")
			return icache.Fetch(ctx, c, "block", []string{"movie:42"}, func(context.Context) (string, error) { return "b", nil })
		})
		return err
	}
	for range 2 { // a miss, a hit
		icachetest.RequireDependsOn(t, c, page, "movies", "user:7", "movie:42", "movie:*", icache.Generation)
	}
	require.Contains(t, failure(t, func(tb testing.TB) { icachetest.RequireDependsOn(tb, c, page, "movies", "movie:43") }),
		`nothing depends on "movie:43"`)
	block := fragment(t, c, "block", "movie:42")
	icachetest.RequireInvalidates(t, c, incr(t, c, "movie:42"), page, block)
	icachetest.RequireInvalidates(t, c, incr(t, c, icache.Generation), page, block)
	icachetest.RequireKeeps(t, c, incr(t, c, "user:7"), block)
}

func TestInvalidates(t *testing.T) {
	t.Parallel()
	c := icachetest.New(t)
	a, b := fragment(t, c, "a", "movie:1"), fragment(t, c, "b", "movie:2")
	icachetest.RequireInvalidates(t, c, incr(t, c, "movie:1"), a)
	icachetest.RequireInvalidates(t, c, incr(t, c, "movie:*"), a, b)
	icachetest.RequireKeeps(t, c, incr(t, c, "movie:1", "movie:3"), b)
	require.Equal(t, []string{"movie:1", "movie:*", "movie:1", "movie:3"}, icachetest.Incremented(t, c))

	message := failure(t, func(tb testing.TB) { icachetest.RequireInvalidates(tb, c, incr(t, c, "movie:1"), a, b) })
	require.Contains(t, message, "does not outdate fragment 1")
	require.Contains(t, message, `"movie:2"`)
	message = failure(t, func(tb testing.TB) { icachetest.RequireKeeps(tb, c, incr(t, c, "movie:2"), a, b) })
	require.Contains(t, message, "outdates fragment 1")

	never := func() error {
		_, err := icache.Fetch(t.Context(), c, "never", nil, func(ctx context.Context) (string, error) {
			icache.NoStore(ctx)
			return "", nil
		})
		return err
	}
	require.Contains(t, failure(t, func(tb testing.TB) { icachetest.RequireInvalidates(tb, c, nothing, never) }), "is not cached")
	require.Contains(t, failure(t, func(tb testing.TB) { icachetest.RequireInvalidates(tb, c, nothing) }), "no fragments given")
}

// An agent increments tokens after the change has returned.
func TestInvalidatesLater(t *testing.T) {
	t.Parallel()
	c := icachetest.New(t)
	acknowledged := make(chan error, 1)
	icachetest.RequireInvalidates(t, c, func() error {
		time.AfterFunc(100*time.Millisecond, func() { acknowledged <- c.Incr(context.Background(), "movie:1") })
		return nil
	}, fragment(t, c, "a", "movie:1"))
	require.NoError(t, <-acknowledged)
}

func TestNewOnDeletesItsKeys(t *testing.T) {
	t.Parallel()
	options, err := redis.ParseURL(servertest.OwnRedis(t).URL())
	require.NoError(t, err)
	rdb := redis.NewClient(options)
	require.NoError(t, rdb.Set(t.Context(), "other", 1, 0).Err())
	t.Cleanup(func() { // after that of NewOn
		require.Equal(t, []string{"other"}, rdb.Keys(context.Background(), "*").Val())
		require.NoError(t, rdb.Close())
	})
	c := icachetest.NewOn(t, rdb, icache.WithTracking(time.Second))
	icachetest.RequireInvalidates(t, c, incr(t, c, "movie:1"), fragment(t, c, "a", "movie:1"))
	require.Greater(t, rdb.DBSize(t.Context()).Val(), int64(2))
}

// The server in this process does what the library asks of Redis.
func TestEverythingOnTheServerInProcess(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := icachetest.New(t, icache.WithAutoPipeline(), icache.WithPayloadCache(1<<20), icache.WithTokenTTL(time.Hour))

	version, err := c.GetSum(ctx, "movies", "movie:1")
	require.NoError(t, err)
	require.NoError(t, c.SetVersioned(ctx, "v", version, []byte("x"), icache.TTL(time.Minute)))
	got, err := c.GetVersioned(ctx, "v", version)
	require.NoError(t, err)
	require.Equal(t, "x", string(got))
	require.NoError(t, c.Incr(ctx, "movie:1", "absent"))
	_, err = c.GetVersioned(ctx, "v", version+1) // deletes it
	require.ErrorIs(t, err, icache.ErrMiss)
	_, err = c.GetVersioned(ctx, "v", version)
	require.ErrorIs(t, err, icache.ErrMiss)

	before, err := c.Values(ctx, "movie:1", "absent")
	require.NoError(t, err)
	n, err := c.IncrAll(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 4)
	after, err := c.Values(ctx, "movie:1", "absent")
	require.NoError(t, err)
	for token := range before {
		require.Greater(t, after[token], before[token])
	}

	reqs := []icache.Request{{Key: "m", Tokens: []string{"movie:1"}}, {Key: "m", Tokens: []string{"movie:2"}}}
	many := func() error {
		_, err := icache.FetchMany(ctx, c, reqs, func(_ context.Context, missing []int) ([]string, error) {
			return make([]string, len(missing)), nil
		})
		return err
	}
	icachetest.RequireInvalidates(t, c, incr(t, c, "movie:2"), many)
	require.NoError(t, c.Delete(ctx, c.FragmentKey("m", reqs[0].Tokens)))
	require.Zero(t, c.Stats().Degraded)
	require.Zero(t, c.Stats().Errors)
}

func TestOtherCachesAreRefused(t *testing.T) {
	t.Parallel()
	c, err := icache.New(icachetest.Redis(t))
	require.NoError(t, err)
	defer c.Close()
	require.Contains(t, failure(t, func(tb testing.TB) { icachetest.Events(tb, c) }), "not made by icachetest.New")
	require.Contains(t, failure(t, func(tb testing.TB) { icachetest.New(tb, icache.WithTokenKey("no placeholder")) }), "{token}")
}
