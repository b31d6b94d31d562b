package icache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestFetchMany(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	reqs := make([]Request, 20)
	for i := range reqs {
		reqs[i] = Request{"movie", []string{fmt.Sprint("movie:", i)}}
	}
	generation := 0
	var loaded [][]int
	fetch := func() []string {
		got, err := FetchMany(ctx, c, reqs, func(ctx context.Context, missing []int) ([]string, error) {
			loaded = append(loaded, missing)
			Depend(ctx, "shared:1", "movie:0")
			out := make([]string, len(missing))
			for i, m := range missing {
				out[i] = fmt.Sprint(m, ".", generation)
			}
			return out, nil
		})
		require.NoError(t, err)
		return got
	}
	require.Equal(t, "7.0", fetch()[7])
	trips := &countTrips{}
	c.redis.reads.AddHook(trips)
	fetch()
	require.Len(t, loaded, 1)
	require.LessOrEqual(t, trips.n.Load(), int64(2))

	generation = 1
	require.NoError(t, c.Incr(ctx, "movie:3", "movie:5"))
	got := fetch()
	require.Equal(t, []int{3, 5}, loaded[1])
	require.Equal(t, []string{"2.0", "3.1", "4.0", "5.1"}, got[2:6])

	generation = 2
	require.NoError(t, c.Incr(ctx, "shared:1"))
	require.Equal(t, "19.2", fetch()[19])
	require.Len(t, loaded[2], 20, "what was found on the way counts for all")

	one, err := Fetch(ctx, c, "movie", []string{"movie:4"}, never[string](t))
	require.NoError(t, err)
	require.Equal(t, "4.2", one, "the same fragments as Fetch")
}

func TestFetchManyFails(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	reqs := []Request{{Key: "a"}, {Key: "b"}}
	_, err := FetchMany(ctx, c, reqs, func(context.Context, []int) ([]int, error) { return nil, errTest })
	require.ErrorIs(t, err, errTest)
	_, err = FetchMany(ctx, c, reqs, func(context.Context, []int) ([]int, error) { return []int{1}, nil })
	require.ErrorContains(t, err, "1 values for 2 fragments")
	got, err := FetchMany(Bypass(ctx), c, reqs, func(_ context.Context, m []int) ([]int, error) { return m, nil })
	require.NoError(t, err)
	require.Equal(t, []int{0, 1}, got)
	none, err := FetchMany(ctx, c, nil, func(context.Context, []int) ([]int, error) { return nil, errTest })
	require.NoError(t, err)
	require.Empty(t, none)

	down := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = down.Close() })
	got, err = FetchMany(ctx, cacheOn(t, down, WithFallbackLimit(1)), reqs, func(_ context.Context, m []int) ([]int, error) { return m, nil })
	require.NoError(t, err)
	require.Equal(t, []int{0, 1}, got)
}

func TestWriteTo(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	render := func(_ context.Context, w io.Writer) error {
		_, err := fmt.Fprint(w, "<p>hello")
		return err
	}
	var b bytes.Buffer
	failing := func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "partial")
		return errTest
	}
	require.ErrorIs(t, c.WriteTo(ctx, &b, "k", nil, failing), errTest)
	require.Equal(t, "partial", b.String())
	for range 2 {
		b.Reset()
		require.NoError(t, c.WriteTo(ctx, &b, "k", nil, render))
		require.Equal(t, "<p>hello", b.String())
	}
	require.Equal(t, uint64(1), c.Stats().Hits)
	require.ErrorIs(t, c.WriteTo(ctx, brokenWriter{}, "other", nil, render), errTest)
	b.Reset()
	require.NoError(t, c.WriteTo(ctx, &b, "other", nil, render))
	require.Equal(t, uint64(1), c.Stats().Hits, "a writer that fails leaves nothing")
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errTest }

func TestBegin(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	f, err := c.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	require.False(t, f.Hit())
	require.Nil(t, f.Bytes())
	inner, err := c.Begin(f.Context(), "inner", []string{"b"})
	require.NoError(t, err)
	inner.Commit([]byte("in"))
	payload := []byte("out")
	f.Commit(payload)
	payload[0] = 'X'
	f.Abort(errTest) // too late to matter
	require.Equal(t, "out", string(f.Bytes()))

	f, err = c.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	require.True(t, f.Hit())
	require.Equal(t, "out", string(f.Bytes()))
	require.Equal(t, Hit, f.Event().Outcome)
	require.Contains(t, f.Event().Tokens, "b")
	require.NoError(t, c.Incr(ctx, "b"))
	f, err = c.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	require.False(t, f.Hit())
	f.Abort(errTest)
	f.Commit([]byte("late"))
	f, err = c.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	require.False(t, f.Hit())
	f.Abort(nil)
}

func TestVersioned(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	ctx := t.Context()
	_, err := c.GetVersioned(ctx, "k", 1)
	require.ErrorIs(t, err, ErrMiss)
	v, err := c.GetSum(ctx, "movies", "movie:42")
	require.NoError(t, err)
	large := bytes.Repeat([]byte("compress me "), 1000)
	for _, value := range [][]byte{[]byte("value"), {}, large} {
		require.NoError(t, c.SetVersioned(ctx, "k", v, value))
		got, err := c.GetVersioned(ctx, "k", v)
		require.NoError(t, err)
		require.Equal(t, string(value), string(got))
	}
	require.Less(t, rdb.StrLen(ctx, c.fragmentKey("k")).Val(), int64(len(large)/4))

	require.NoError(t, c.Incr(ctx, "movie:*"))
	v2, err := c.GetSum(ctx, "movies", "movie:42")
	require.NoError(t, err)
	require.NotEqual(t, v, v2)
	_, err = c.GetVersioned(ctx, "k", v2)
	require.ErrorIs(t, err, ErrMiss)
	require.Zero(t, rdb.Exists(ctx, c.fragmentKey("k")).Val(), "a mismatch deletes the entry")

	// Only that entry: one that somebody stored meanwhile stays.
	require.NoError(t, c.SetVersioned(ctx, "k", v2, []byte("newer"), TTL(time.Hour)))
	require.NoError(t, c.dropVersion(ctx, "k", v))
	got, err := c.GetVersioned(ctx, "k", v2)
	require.NoError(t, err)
	require.Equal(t, "newer", string(got))
	require.Positive(t, rdb.TTL(ctx, c.fragmentKey("k")).Val())
	require.NoError(t, c.Delete(ctx, "k", "other"))
	_, err = c.GetVersioned(ctx, "k", v2)
	require.ErrorIs(t, err, ErrMiss)
	require.NoError(t, rdb.Set(ctx, c.fragmentKey("k"), "not a fragment", 0).Err())
	_, err = c.GetVersioned(ctx, "k", v2)
	require.ErrorIs(t, err, ErrMiss)
}

func TestStale(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	c, rdb := newCache(t, rec.option(), WithDefaults(Stale(time.Minute)))
	ctx := t.Context()
	get := func(v string, opts ...FetchOption) (string, Event) {
		got, err := Fetch(ctx, c, "k", []string{"a"}, constant(v), opts...)
		require.NoError(t, err)
		return got, rec.next(t)
	}
	got, _ := get("1")
	require.Equal(t, "1", got)
	require.NoError(t, c.Incr(ctx, "a"))
	got, e := get("2")
	require.Equal(t, "1", got, "the old one at once")
	require.ElementsMatch(t, []Outcome{StaleHit, Miss}, []Outcome{e.Outcome, rec.next(t).Outcome}, "and the new one in the background")
	got, e = get("x")
	require.Equal(t, "2", got)
	require.Equal(t, Hit, e.Outcome)

	// Whoever creates a lost token does not know how old the fragment is.
	require.NoError(t, rdb.Del(ctx, c.keys.key("a")).Err())
	got, _ = get("3")
	require.Equal(t, "3", got)

	// Too long ago.
	require.NoError(t, c.Incr(ctx, "a"))
	time.Sleep(20 * time.Millisecond)
	got, _ = get("4", Stale(10*time.Millisecond))
	require.Equal(t, "4", got)

	// A fragment around a stale one is not stored.
	require.NoError(t, c.Incr(ctx, "a"))
	outer := func() string {
		got, err := Fetch(ctx, c, "outer", nil, func(ctx context.Context) (string, error) {
			return Fetch(ctx, c, "k", []string{"a"}, constant("5"))
		})
		require.NoError(t, err)
		return got
	}
	require.Equal(t, "4", outer())
	for range 3 {
		rec.next(t)
	}
	require.Equal(t, "5", outer())
}

func TestStaleWhileOtherComputes(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithDefaults(Stale(time.Minute)))
	ctx := t.Context()
	f, err := c.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	f.Commit([]byte("old"))
	require.NoError(t, c.Incr(ctx, "a"))
	f, err = c.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	require.False(t, f.Hit(), "one has to compute")
	other, err := c.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	require.True(t, other.Hit())
	require.Equal(t, StaleHit, other.Event().Outcome)
	require.Equal(t, "old", string(other.Bytes()))

	process2 := cacheOn(t, c.redis.rdb, WithPrefix(c.cfg.prefix), WithDefaults(Stale(time.Minute)))
	other, err = process2.Begin(ctx, "k", []string{"a"})
	require.NoError(t, err)
	require.Equal(t, StaleHit, other.Event().Outcome, "also while another process computes")
	f.Commit([]byte("new"))
}

func TestStaleOnError(t *testing.T) {
	t.Parallel()
	rec := newRecorder()
	c, _ := newCache(t, rec.option(), WithDefaults(StaleOnError(time.Minute)))
	ctx := t.Context()
	fail := func(context.Context) (string, error) { return "", errTest }
	_, err := Fetch(ctx, c, "k", []string{"a"}, fail)
	require.ErrorIs(t, err, errTest, "there is nothing to serve")
	rec.next(t)
	_, err = Fetch(ctx, c, "k", []string{"a"}, constant("old"))
	require.NoError(t, err)
	rec.next(t)
	require.NoError(t, c.Incr(ctx, "a"))
	got, err := Fetch(ctx, c, "k", []string{"a"}, fail)
	require.NoError(t, err)
	require.Equal(t, "old", got)
	e := rec.next(t)
	require.Equal(t, StaleHit, e.Outcome)
	require.ErrorIs(t, e.Err, errTest)
	got, err = Fetch(ctx, c, "k", []string{"a"}, constant("new"))
	require.NoError(t, err)
	require.Equal(t, "new", got)
	require.NoError(t, c.Incr(ctx, "a"))
	time.Sleep(20 * time.Millisecond)
	_, err = Fetch(ctx, c, "k", []string{"a"}, fail, StaleOnError(10*time.Millisecond))
	require.ErrorIs(t, err, errTest)
}

func TestBackgroundPanic(t *testing.T) {
	t.Parallel()
	reported := make(chan error, 1)
	c, _ := newCache(t, WithDefaults(Stale(time.Minute)), WithHooks(Hooks{Error: func(_ context.Context, _ string, err error) { reported <- err }}))
	ctx := t.Context()
	_, err := Fetch(ctx, c, "k", []string{"a"}, constant("old"))
	require.NoError(t, err)
	require.NoError(t, c.Incr(ctx, "a"))
	got, err := Fetch(ctx, c, "k", []string{"a"}, func(context.Context) (string, error) { panic("boom") })
	require.NoError(t, err)
	require.Equal(t, "old", got)
	require.ErrorContains(t, <-reported, "boom")
}

// Replicas lag: with Holdoff what was read too early dies in time, without it
// does not.
func TestHoldoff(t *testing.T) {
	t.Parallel()
	for _, holdoff := range []time.Duration{0, 300 * time.Millisecond} {
		t.Run(holdoff.String(), func(t *testing.T) {
			t.Parallel()
			c, _ := newCache(t, WithDefaults(Holdoff(holdoff)))
			ctx := t.Context()
			const lag = 100 * time.Millisecond
			var changed time.Time
			fetch := func() string {
				got, err := Fetch(ctx, c, "k", []string{"a"}, func(context.Context) (string, error) {
					if changed.IsZero() || time.Since(changed) < lag { // the replica
						return "old", nil
					}
					return "new", nil
				})
				require.NoError(t, err)
				return got
			}
			fetch()
			changed = time.Now()
			require.NoError(t, c.Incr(ctx, "a"))
			require.Equal(t, "old", fetch())
			time.Sleep(time.Until(changed.Add(holdoff + lag)))
			want := "new"
			if holdoff == 0 {
				want = "old"
			}
			require.Equal(t, want, fetch())
		})
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	type mismatch struct{ key, cached, fresh string }
	found := make(chan mismatch, 10)
	c, _ := newCache(t, WithVerify(1), WithHooks(Hooks{Mismatch: func(_ context.Context, key string, cached, fresh []byte) {
		found <- mismatch{key, string(cached), string(fresh)}
	}}))
	ctx := t.Context()
	for _, v := range []string{"same", "same", "changed without an increment"} {
		got, err := Fetch(ctx, c, "k", []string{"a"}, constant(v))
		require.NoError(t, err)
		require.Equal(t, "same", got)
	}
	require.Equal(t, mismatch{"k", "same", "changed without an increment"}, <-found)
	require.NoError(t, c.Close())
	require.Empty(t, found)
}

func TestClose(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithTracking(time.Second), WithAutoPipeline(), WithDefaults(Stale(time.Minute)))
	ctx := t.Context()
	fetchTwice(ctx, t, c, "k", "x")
	require.NoError(t, c.Incr(ctx, "*"))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.False(t, c.background(func() { t.Error("ran") }))
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	t.Cleanup(func() { _ = ring.Close() })
	_, err := New(ring)
	require.ErrorContains(t, err, "Ring")
	for _, o := range []*redis.ClusterOptions{{ReadOnly: true}, {RouteByLatency: true}, {RouteRandomly: true}} {
		o.Addrs = []string{"127.0.0.1:1"}
		cluster := redis.NewClusterClient(o)
		t.Cleanup(func() { _ = cluster.Close() })
		_, err := New(cluster)
		require.ErrorContains(t, err, "replicas")
	}
	_, err = New(nil)
	require.Error(t, err)
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = rdb.Close() })
	_, err = New(rdb, WithTokenKey("no placeholder"), WithFallbackLimit(-1))
	require.ErrorContains(t, err, `"no placeholder"`)
	require.ErrorContains(t, err, "fallback limit")

	plain := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { _ = plain.Close() })
	var warning error
	_, err = New(plain, WithHooks(Hooks{Error: func(_ context.Context, _ string, err error) { warning = err }}))
	require.NoError(t, err)
	require.ErrorIs(t, warning, ErrContextTimeout)
}
