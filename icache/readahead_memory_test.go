package icache

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Each reader's page begins with a fragment of the reader's own, and then it is
// the same for all: what is remembered of so many pages stays within its bound,
// whether all of the rest is read ahead or not.
func TestReadAheadRemembersLittle(t *testing.T) {
	t.Parallel()
	for name, readAhead := range map[string]bool{"read ahead": true, "not read ahead": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const pages, rows = 1000, 200
			var ts trails
			for reader := range pages {
				page := new(trail)
				ts.swap(trailKey{"page", fmt.Sprint("reader", reader)}, page)
				for row := range rows {
					if !readAhead && row%20 == 0 {
						ts.swap(trailKey{"page", fmt.Sprint("row", row)}, page)
					}
					ts.add(page, trailItem{})
				}
			}
			ts.c.CleanUp()
			seen, items := make(map[*trail]bool), 0
			for _, h := range ts.c.All() {
				for _, t := range []*trail{h.last, h.before} {
					if t != nil && !seen[t] {
						seen[t] = true
						items += len(t.list())
					}
				}
			}
			t.Logf("%d items", items)
			require.Greater(t, items, rows)
			require.Less(t, items, 2*maxTrailItems)
		})
	}
}

// A context that is kept for longer than a page does not grow for ever.
func TestReadAheadForLong(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	p := &page{t: t, c: c}
	ctx := ReadAhead(t.Context(), "worker")
	p.row(ctx, 1)
	have := scopeOf(ctx).ahead.have
	for i := range maxTrail {
		have[fmt.Sprint("another ", i)] = new(read)
	}
	size := len(have)
	for range 2 {
		for id := range 10 {
			p.row(ctx, id)
		}
	}
	require.Equal(t, size, len(have)) //nolint:testifylint // it would print all of it
	require.Len(t, p.made, 10)
}

// A small fragment in the payload cache keeps nothing of the reply it came with.
// Not in parallel: it looks at the memory of the process.
func TestPayloadCacheKeepsNoReplies(t *testing.T) {
	c, _ := newCache(t, WithPayloadCache(1<<20), WithDefaults(WithCompression(0, nil)))
	big := make([]byte, 1<<20) // more than is cached
	ctx := t.Context()
	load := func(_ context.Context, missing []int) ([][]byte, error) {
		out := make([][]byte, len(missing))
		for i, m := range missing {
			out[i] = []byte("small")
			if m == 1 {
				out[i] = big
			}
		}
		return out, nil
	}
	page := func(i int) {
		_, err := FetchMany(ctx, c, []Request{{Key: fmt.Sprint("small", i)}, {Key: "big"}}, load)
		require.NoError(t, err)
	}
	const pages = 20
	for i := range pages {
		page(i)
	}
	before := heap()
	for i := range pages {
		page(i)
	}
	grown := heap() - before
	t.Logf("%d MiB", grown>>20)
	require.Less(t, grown, int64(10<<20))
	runtime.KeepAlive(c)
}
