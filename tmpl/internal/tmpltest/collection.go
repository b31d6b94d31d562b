package tmpltest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// Trips counts the round trips of a client, and the keys that MGETs ask for.
type Trips struct{ N, Keys atomic.Int64 }

// Reset sets the counters to 0.
func (t *Trips) Reset() { t.N.Store(0); t.Keys.Store(0) }

// DialHook is part of [redis.Hook].
func (t *Trips) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook is part of [redis.Hook].
func (t *Trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		t.N.Add(1)
		if cmd.Name() == "mget" {
			t.Keys.Add(int64(len(cmd.Args()) - 1))
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook is part of [redis.Hook].
func (t *Trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		t.N.Add(1)
		return next(ctx, cmds)
	}
}

// Processes returns two caches with the same keys, as two processes have them,
// and the round trips of the first.
func Processes(tb testing.TB, opts ...icache.Option) (c, other *icache.Cache, trips *Trips) {
	tb.Helper()
	trips = new(Trips)
	// A client with another timeout is a copy, which has no hooks.
	opts = append(opts, icache.WithPrefix(servertest.Prefix(tb)), icache.WithTimeout(0))
	for _, cache := range []**icache.Cache{&c, &other} {
		options, err := redis.ParseURL(servertest.Redis(tb))
		require.NoError(tb, err)
		rdb := redis.NewClient(options)
		tb.Cleanup(func() { require.NoError(tb, rdb.Close()) })
		if c == nil {
			rdb.AddHook(trips)
		}
		*cache, err = icache.New(rdb, opts...)
		require.NoError(tb, err)
		tb.Cleanup(func() { require.NoError(tb, (*cache).Close()) })
	}
	return c, other, trips
}

// Movie is a row of [Collection].
type Movie struct {
	ID    int
	Title string
}

// Token is the token of the row, for templates without functions.
func (m Movie) Token() string { return fmt.Sprint("movie:", m.ID) }

// Collection checks what an engine makes of 500 cached rows in a cached list.
// render caches in c and renders the fragment "list", around a fragment "row"
// for each movie with the movie's token, which shows the title and a semicolon.
func Collection(t *testing.T, c, other *icache.Cache, trips *Trips, render func(ctx context.Context, movies []Movie) (string, error)) {
	t.Helper()
	movies := make([]Movie, 500)
	for i := range movies {
		movies[i] = Movie{i, fmt.Sprint("title ", i)}
	}
	page := func() map[string]int {
		t.Helper()
		trips.Reset()
		ctx, events := Record(t.Context())
		got, err := render(ctx, movies)
		require.NoError(t, err)
		var want strings.Builder
		for _, m := range movies {
			want.WriteString(m.Title + ";")
		}
		require.Equal(t, want.String(), got)
		outcomes := make(map[string]int)
		for _, o := range events.Outcomes() {
			outcomes[o]++
		}
		return outcomes
	}
	require.Equal(t, map[string]int{"list: miss": 1, "row: miss": 500}, page())
	require.Equal(t, map[string]int{"list: hit": 1}, page())
	require.EqualValues(t, 1, trips.N.Load())
	for i := range 3 {
		movies[i*100].Title = "changed"
		require.NoError(t, other.Incr(t.Context(), movies[i*100].Token()))
		require.Equal(t, map[string]int{"list: miss": 1, "row: miss": 1, "row: hit": 499}, page())
		// One for 499 rows; one to look up, one for the lease and one to store, twice.
		require.LessOrEqual(t, trips.N.Load(), int64(1+3+3))
		require.Equal(t, map[string]int{"list: hit": 1}, page())
	}
}
