package icache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// page is made of rows, each a fragment, within a fragment or not.
type page struct {
	t      *testing.T
	c      *Cache
	kind   string
	nested bool
	made   []int
	size   int // of a row
}

func (p *page) row(ctx context.Context, id int) string {
	got, err := Fetch(ctx, p.c, "row", []string{fmt.Sprint("movie:", id)}, func(context.Context) (string, error) {
		p.made = append(p.made, id)
		return fmt.Sprint(id, strings.Repeat(".", p.size)), nil
	}, Vary("row"))
	require.NoError(p.t, err)
	return got
}

func (p *page) rows(ctx context.Context, ids ...int) (string, error) {
	var out strings.Builder
	for _, id := range ids {
		out.WriteString(p.row(ctx, id) + " ")
	}
	return out.String(), nil
}

// get renders the page and returns the round trips and the rows made anew.
func (p *page) get(ids ...int) (trips int64, made []int) {
	p.t.Helper()
	count := countTrips{}
	p.c.redis.read.AddHook(&count)
	p.made = nil
	ctx := ReadAhead(p.t.Context(), p.kind)
	var got string
	var err error
	if p.nested {
		got, err = Fetch(ctx, p.c, "list", nil, func(ctx context.Context) (string, error) { return p.rows(ctx, ids...) })
	} else {
		got, err = p.rows(ctx, ids...)
	}
	require.NoError(p.t, err)
	for i, word := range strings.Fields(got) {
		require.Equal(p.t, fmt.Sprint(ids[i]), strings.TrimRight(word, "."))
	}
	return count.n.Load(), p.made
}

func span(from, to int) []int {
	var ids []int
	for i := from; i < to; i++ {
		ids = append(ids, i)
	}
	return ids
}

func TestReadAhead(t *testing.T) {
	t.Parallel()
	for _, nested := range []bool{false, true} {
		t.Run(fmt.Sprint("nested ", nested), func(t *testing.T) {
			t.Parallel()
			c, _ := newCache(t, WithDefaults(NoLease()))
			other, _ := newCache(t, WithPrefix(c.cfg.prefix)) // another process
			p := &page{t: t, c: c, kind: "movies", nested: nested}
			change := func(id int) { require.NoError(t, other.Incr(t.Context(), fmt.Sprint("movie:", id))) }
			ids := span(0, 500)
			outer := int64(0)
			if nested {
				outer = 2 // looked up and stored
			}
			_, made := p.get(ids...)
			require.Equal(t, ids, made)

			if nested {
				trips, _ := p.get(ids...)
				require.LessOrEqual(t, trips, int64(1), "what is inside a hit is not read")
				change(0)
			}
			trips, _ := p.get(ids...)
			require.LessOrEqual(t, trips, outer+3)
			for range 3 {
				change(7)
				trips, made = p.get(ids...)
				require.Equal(t, []int{7}, made)
				require.LessOrEqual(t, trips, outer+1+2, "one for 499 rows, two for the one that is made")
			}

			// Rows come and go, and change places.
			change(1)
			ids = append([]int{1000}, ids[1:]...)
			p.get(ids...)
			change(1)
			trips, made = p.get(ids...)
			require.Equal(t, []int{1}, made)
			require.LessOrEqual(t, trips, outer+1+2)
			rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			change(1)
			trips, made = p.get(ids...)
			require.Equal(t, []int{1}, made)
			require.LessOrEqual(t, trips, outer+1+4)
		})
	}
}

// A page that is not like the last one costs little more than without.
func TestReadAheadWrongly(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithDefaults(NoLease()))
	p := &page{t: t, c: c, kind: "all"}
	all := span(0, 400)
	p.get(all...)
	p.kind = "search"
	var trips int64
	for range 30 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		n, made := p.get(all[:20]...)
		require.Empty(t, made)
		require.LessOrEqual(t, n, int64(20))
		trips += n
	}
	t.Logf("%d round trips for 600 fragments", trips)

	// A header that is on all pages of a kind does not stand in the way of lists.
	p.kind = "paged"
	for range 4 {
		p.get(append([]int{1}, span(100, 200)...)...)
		p.get(append([]int{1}, span(200, 300)...)...)
	}
	trips, _ = p.get(append([]int{1}, span(100, 200)...)...)
	require.LessOrEqual(t, trips, int64(2))
}

func TestReadAheadIsFresh(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	other, _ := newCache(t, WithPrefix(c.cfg.prefix))
	p := &page{t: t, c: c, kind: "movies"}
	p.get(1, 2, 3)
	p.get(1, 2, 3)

	start := func() context.Context {
		ctx := ReadAhead(t.Context(), "movies")
		p.made = nil
		p.row(ctx, 1) // 2 and 3 have been read
		return ctx
	}
	ctx := start()
	require.NoError(t, other.Incr(ctx, "movie:2"))
	p.row(ctx, 2)
	require.Empty(t, p.made, "the page has started before")
	p.get(1, 2, 3)
	require.Equal(t, []int{2}, p.made, "this one has not")

	ctx = start()
	require.NoError(t, other.Incr(ctx, "movie:2"))
	require.Eventually(t, func() bool { p.row(ctx, 2); return len(p.made) > 0 }, 20*time.Second, 10*time.Millisecond, "not for long")

	ctx = start()
	require.NoError(t, c.Incr(ctx, "movie:3"))
	p.row(ctx, 3)
	require.Equal(t, []int{3}, p.made, "its own increment")

	ctx = start()
	require.NoError(t, other.Incr(ctx, "movie:3"))
	p.row(Pin(ctx), 3)
	require.Equal(t, []int{3}, p.made, "a Pin is as fresh as it is itself")
	p.row(Bypass(ctx), 3)
	require.Equal(t, []int{3, 3}, p.made)
}

// Under WithLegacyCounters nothing but the scan increments.
func TestReadAheadSeesIncrAll(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithLegacyCounters())
	p := &page{t: t, c: c}
	require.NoError(t, c.Incr(t.Context(), "movie:1", "movie:2"))
	p.get(1, 2)
	p.get(1, 2)
	ctx := ReadAhead(t.Context(), "")
	p.made = nil
	p.row(ctx, 1)
	_, err := c.IncrAll(ctx)
	require.NoError(t, err)
	p.row(ctx, 2)
	require.Equal(t, []int{2}, p.made)
}

// What was read ahead may be older than what the fragment around it has learned
// of the same token meanwhile: the older value counts.
func TestReadAheadWithinFragment(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	other, _ := newCache(t, WithPrefix(c.cfg.prefix))
	p := &page{t: t, c: c}
	var between func(ctx context.Context)
	list := func() {
		p.made = nil
		_, err := Fetch(ReadAhead(t.Context(), ""), c, "list", []string{"list"}, func(ctx context.Context) (string, error) {
			p.row(ctx, 1)
			between(ctx)
			return p.row(ctx, 2), nil
		})
		require.NoError(t, err)
	}
	between = func(context.Context) {}
	list()
	require.NoError(t, other.Incr(t.Context(), "list"))
	between = func(ctx context.Context) {
		require.NoError(t, other.Incr(ctx, "movie:2"))
		Depend(ctx, "movie:2")
	}
	list()
	require.Empty(t, p.made)
	between = func(context.Context) {}
	list()
	require.Equal(t, []int{2}, p.made)
}

// refuse lets MGETs of many keys fail, as those of a slow network do.
type refuse struct{ countTrips }

func (h *refuse) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if len(cmd.Args()) > 50 {
			h.n.Add(1)
			cmd.SetErr(errors.New("refused"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

func TestReadAheadFails(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	p := &page{t: t, c: c}
	ids := span(0, 100)
	p.get(ids...)
	hook := &refuse{}
	c.redis.reads.AddHook(hook)
	for range 5 {
		_, made := p.get(ids...)
		require.Empty(t, made)
	}
	require.EqualValues(t, 5, hook.n.Load(), "once for each page")
}

func TestReadAheadOfLargeFragments(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithDefaults(WithCompression(0, nil)))
	p := &page{t: t, c: c, size: 50_000}
	ids := span(0, 60) // 3 MB
	for range 2 {
		p.get(ids...)
	}
	trips, _ := p.get(ids...)
	require.LessOrEqual(t, trips, int64(4))
	require.Greater(t, trips, int64(1))
}

func TestReadAheadTwoCaches(t *testing.T) {
	t.Parallel()
	a, _ := newCache(t)
	b, _ := newCache(t)
	for range 3 {
		ctx := ReadAhead(t.Context(), "")
		for i := range 20 {
			for name, c := range map[string]*Cache{"a": a, "b": b} {
				got, err := Fetch(ctx, c, fmt.Sprint("f", i), nil, constant(name))
				require.NoError(t, err)
				require.Equal(t, name, got)
			}
		}
	}
}

func TestReadAheadFillsL1(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithTracking(time.Minute))
	p := &page{t: t, c: c}
	p.get(1, 2, 3, 4)
	require.Eventually(t, func() bool {
		trips, _ := p.get(1, 2, 3, 4)
		return trips == 0
	}, 20*time.Second, 10*time.Millisecond)
}

// TestReadAheadStress: while rows change, no page shows a row as it was before
// an increment that was acknowledged before the page was begun.
func TestReadAheadStress(t *testing.T) {
	t.Parallel()
	const rows = 6
	first, _ := newCache(t)
	caches := []*Cache{first}
	for range 2 {
		c, _ := newCache(t, WithPrefix(first.cfg.prefix))
		caches = append(caches, c)
	}
	writer, _ := newCache(t, WithPrefix(first.cfg.prefix))
	var data, acked [rows]atomic.Int64
	token := func(i int) string { return fmt.Sprint("row:", i) }
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range rows {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := data[i].Add(1)
				if writer.Incr(context.Background(), token(i)) == nil {
					acked[i].Store(n)
				}
				time.Sleep(rand.N(20 * time.Millisecond))
			}
		})
	}
	type shown [rows]int64
	list := func(ctx context.Context, c *Cache, from int) (shown, error) {
		// Rows are tokens of the list as well, so that their values come from two readings.
		tokens := []string{token(from), token((from + 3) % rows)}
		return Fetch(ctx, c, fmt.Sprint("list", from), tokens, func(ctx context.Context) (v shown, err error) {
			for i := range rows {
				if rand.N(8) == 0 {
					Depend(ctx, token(i)) // and not by a fragment
					v[i] = data[i].Load()
					continue
				}
				if v[i], err = Fetch(ctx, c, token(i), []string{token(i)}, func(context.Context) (int64, error) {
					return data[i].Load(), nil
				}); err != nil {
					return v, err
				}
				time.Sleep(rand.N(time.Millisecond))
			}
			return v, nil
		})
	}
	render := func(ctx context.Context, c *Cache) (v shown, err error) {
		ctx = ReadAhead(ctx, "page")
		for from := range 2 {
			got, err := list(ctx, c, from)
			if err != nil {
				return got, err
			}
			for i := range v {
				if from == 0 || got[i] < v[i] {
					v[i] = got[i]
				}
			}
		}
		return v, nil
	}
	var pages atomic.Int64
	for r := range 24 {
		wg.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				var want shown
				for i := range want {
					want[i] = acked[i].Load()
				}
				got, err := render(ctx, caches[r%len(caches)])
				if err != nil {
					continue
				}
				for i := range want {
					if got[i] < want[i] {
						t.Errorf("row %d is %d, want %d or more", i, got[i], want[i])
						cancel()
					}
				}
				if pages.Add(1) >= 1000 {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	require.Greater(t, pages.Load(), int64(100))
}
