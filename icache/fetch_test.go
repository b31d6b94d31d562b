package icache

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestFetch(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	c, _ := newCache(t, rec.option())
	ctx := t.Context()
	fetch := func(fn func(context.Context) (string, error)) string {
		got, err := Fetch(ctx, c, "page", []string{"movies", "movie:42"}, fn)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, "one", fetch(constant("one")))
	e := rec.next(t)
	require.Equal(t, Miss, e.Outcome)
	require.Equal(t, WhyAbsent, e.Why)
	require.Equal(t, []string{"*", "movie:*", "movie:42", "movies"}, e.Tokens)
	require.Equal(t, 3, e.Bytes)

	require.Equal(t, "one", fetch(never[string](t)))
	hit := rec.next(t)
	require.Equal(t, Hit, hit.Outcome)
	require.Equal(t, e.Version, hit.Version)
	require.Empty(t, hit.Why)

	for i, token := range []string{"movies", "movie:42", "movie:*", "*"} {
		require.NoError(t, c.Incr(ctx, token))
		want := fmt.Sprint("new", i)
		require.Equal(t, want, fetch(constant(want)), token)
		require.Equal(t, WhyVersion, rec.next(t).Why)
		require.Equal(t, want, fetch(never[string](t)))
		rec.next(t)
	}
	require.NoError(t, c.Incr(ctx, "movie:43", "other"))
	require.Equal(t, "new3", fetch(never[string](t)), "other tokens do not matter")

	require.NoError(t, c.Delete(ctx, c.FragmentKey("page", []string{"movie:42", "movies"})))
	require.Equal(t, "again", fetch(constant("again")))
}

func TestFetchIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	trips := &countTrips{}
	c.redis.read.AddHook(trips)
	outer := func() {
		_, err := Fetch(ctx, c, "outer", []string{"a", "b"}, func(ctx context.Context) (string, error) {
			Depend(ctx, "c:1")
			return Fetch(ctx, c, "inner", []string{"d"}, constant("x"))
		})
		require.NoError(t, err)
	}
	outer()
	trips.n.Store(0)
	outer()
	require.Equal(t, int64(1), trips.n.Load(), "also with tokens found on the way")

	// Another process has to learn of them first.
	other := cacheOn(t, rdb, WithPrefix(c.cfg.prefix))
	other.redis.read.AddHook(trips)
	c = other
	for _, want := range []int64{2, 1} {
		trips.n.Store(0)
		outer()
		require.Equal(t, want, trips.n.Load())
	}
}

// countTrips counts round trips.
type countTrips struct{ n atomic.Int64 }

func (h *countTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *countTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.n.Add(1)
		return next(ctx, cmd)
	}
}

func (h *countTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.n.Add(1)
		return next(ctx, cmds)
	}
}

func TestFetchTypes(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	fetchTwice(ctx, t, c, "string", "text")
	fetchTwice(ctx, t, c, "empty string", "")
	fetchTwice(ctx, t, c, "html", template.HTML("<b>"))
	fetchTwice(ctx, t, c, "bytes", []byte{0, 1, 2})
	fetchTwice(ctx, t, c, "raw json", json.RawMessage(`{"a":1}`))
	fetchTwice(ctx, t, c, "int", 7)
	fetchTwice(ctx, t, c, "slice", []string{"a", "b"})
	fetchTwice(ctx, t, c, "map", map[string]int{"a": 1})
	fetchTwice(ctx, t, c, "struct", struct{ A, B string }{"1", "2"})
	fetchTwice(ctx, t, c, "pointer", &struct{ A int }{1})
	fetchTwice(ctx, t, c, "nothing", (*int)(nil))
	fetchTwice(ctx, t, c, "large", strings.Repeat("compress me ", 10_000))
}

func fetchTwice[T any](ctx context.Context, t *testing.T, c *Cache, key string, v T) {
	t.Helper()
	for _, fn := range []func(context.Context) (T, error){constant(v), never[T](t)} {
		got, err := Fetch(ctx, c, key, nil, fn)
		require.NoError(t, err)
		require.Equal(t, v, got, key)
	}
}

func TestFetchOtherTypeIsMiss(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	c, _ := newCache(t, rec.option())
	ctx := t.Context()
	_, err := Fetch(ctx, c, "k", nil, constant("text"))
	require.NoError(t, err)
	rec.next(t)
	n, err := Fetch(ctx, c, "k", nil, constant(5))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.Equal(t, WhyFormat, rec.next(t).Why)
	s, err := Fetch(ctx, c, "k", nil, constant([]string{"a"}))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, s)
	require.Equal(t, WhyFormat, rec.next(t).Why, "an int is not a slice")
}

func TestFetchReturnsErrorsUncached(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	for range 2 {
		_, err := Fetch(ctx, c, "k", nil, func(context.Context) (string, error) { return "partial", errTest })
		require.ErrorIs(t, err, errTest)
	}
	fetchTwice(ctx, t, c, "k", "fine")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := Fetch(ended, c, "k", nil, never[string](t))
	require.ErrorIs(t, err, context.Canceled)
}

func TestFetchEncodingFails(t *testing.T) {
	t.Parallel()
	var reported error
	c, _ := newCache(t, WithHooks(Hooks{Error: func(_ context.Context, _ string, err error) { reported = err }}))
	v, err := Fetch(t.Context(), c, "k", nil, constant(func() {}))
	require.NoError(t, err)
	require.NotNil(t, v)
	require.Error(t, reported)
}

// The same key and tokens must not yield what another caller does to its value.
func TestFetchSharesNoMemory(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithPayloadCache(1<<20))
	ctx := t.Context()
	for range 3 {
		b, err := Fetch(ctx, c, "k", nil, constant([]byte("abc")))
		require.NoError(t, err)
		require.Equal(t, "abc", string(b))
		b[0] = 'X'
	}
}

func TestBypassTouchesNothing(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := Bypass(t.Context())
	for i := range 2 {
		got, err := Fetch(ctx, c, "k", []string{"a"}, func(ctx context.Context) (int, error) {
			Depend(ctx, "b")
			return Fetch(ctx, c, "inner", nil, constant(i))
		})
		require.NoError(t, err)
		require.Equal(t, i, got)
	}
	require.Empty(t, rdb.Keys(t.Context(), c.cfg.prefix+"*").Val())
	require.Equal(t, uint64(4), c.Stats().Skipped)
}

func TestFragmentsThatContainThemselves(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	var fetch func(ctx context.Context, depth int) (string, error)
	fetch = func(ctx context.Context, depth int) (string, error) {
		return Fetch(ctx, c, "self", nil, func(ctx context.Context) (string, error) {
			if depth == 0 {
				return "x", nil
			}
			s, err := fetch(ctx, depth-1)
			return "(" + s + ")", err
		}, NoLease())
	}
	got, err := fetch(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, "((x))", got)
}

// Two fragments that contain each other, computed by two goroutines, wait for
// each other at most as long as for a lease.
func TestFragmentsThatWaitForEachOther(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithDefaults(WithLease(time.Second, 200*time.Millisecond)))
	var ready, wg sync.WaitGroup
	ready.Add(2)
	run := func(outer, inner string) {
		_, err := Fetch(t.Context(), c, outer, nil, func(ctx context.Context) (string, error) {
			ready.Done()
			ready.Wait()
			return Fetch(ctx, c, inner, nil, constant("x"))
		})
		if err != nil {
			t.Error(err)
		}
	}
	wg.Go(func() { run("a", "b") })
	wg.Go(func() { run("b", "a") })
	wg.Wait()
}

func TestRedisDown(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	rec := newRecorder()
	c := cacheOn(t, rdb, rec.option(), WithFallbackLimit(1))
	ctx := t.Context()
	for range 10 {
		got, err := Fetch(ctx, c, "k", []string{"a"}, func(ctx context.Context) (string, error) {
			Depend(ctx, "b")
			return "computed", nil
		})
		require.NoError(t, err)
		require.Equal(t, "computed", got)
		e := rec.next(t)
		require.Equal(t, Degraded, e.Outcome)
		require.Equal(t, WhyError, e.Why)
		require.Error(t, e.Err)
	}
	require.Equal(t, uint64(breakerFailures), c.Stats().Errors, "then the breaker is open")

	// One computation at a time.
	started, proceed, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _ = Fetch(ctx, c, "k", nil, func(context.Context) (int, error) {
			close(started)
			<-proceed
			return 0, nil
		})
	}()
	<-started
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	_, err := Fetch(short, c, "k", nil, never[int](t))
	require.ErrorIs(t, err, ErrBusy)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(proceed)
	<-done
	_, err = c.GetSum(ctx, "a")
	require.Error(t, err)
}

func TestBreakerCloses(t *testing.T) {
	t.Parallel()
	var b breaker
	for range breakerFailures {
		require.True(t, b.allow())
		b.report(errTest)
	}
	require.False(t, b.allow())
	b.next.Store(time.Now().UnixNano())
	require.True(t, b.allow(), "one attempt")
	require.False(t, b.allow(), "and no more")
	b.report(nil)
	require.True(t, b.allow())
}

func TestTokenThatIsNone(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	require.NoError(t, rdb.Set(ctx, c.keys.key("a"), strings.Repeat("hello", 20), 0).Err())
	_, err := c.GetSum(ctx, "a")
	var bad *TokenError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "a", bad.Token)
	require.Contains(t, err.Error(), "want a decimal integer")
	got, err := Fetch(ctx, c, "k", []string{"a"}, constant("computed"))
	require.NoError(t, err)
	require.Equal(t, "computed", got)
	require.Equal(t, uint64(1), c.Stats().Degraded)
	require.NoError(t, c.Incr(ctx, "a"), "an increment repairs it")
	fetchTwice(ctx, t, c, "k", "fine")
}
