package icache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// stress lets readers of several processes, writers, and losses of tokens at
// one Redis, and counts what is older than an acknowledged increment.
type stress struct {
	server *localserver.Redis
	opts   []Option
	seams  seams
	losses bool
	nested bool
	until  time.Duration
	enough int64 // stop after so many stale results
}

func (s stress) run(t *testing.T) (reads, stale int64) {
	t.Helper()
	const processes, readers, rows = 4, 16, 3
	rdb := dial(t, s.server.URL())
	ctx, cancel := context.WithTimeout(t.Context(), s.until)
	defer cancel()
	caches := make([]*Cache, processes)
	for i := range caches {
		caches[i] = cacheOn(t, dial(t, s.server.URL()), s.opts...)
		caches[i].seams = s.seams
	}
	var data, acked [rows]atomic.Int64
	var nReads, nStale atomic.Int64
	row := func(i int) string { return fmt.Sprint("row:", i) }
	var wg sync.WaitGroup
	for w := range rows {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := data[w].Add(1) // the commit
				for ctx.Err() == nil && caches[w].Incr(context.Background(), row(w)) != nil {
					time.Sleep(time.Millisecond)
				}
				if ctx.Err() == nil {
					acked[w].Store(n)
				}
				time.Sleep(rand.N(4 * time.Millisecond))
			}
		})
	}
	if s.losses {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if i%50 == 49 {
					rdb.FlushAll(ctx)
				}
				rdb.Del(ctx, caches[0].keys.key(row(rand.N(rows))))
				time.Sleep(rand.N(3 * time.Millisecond))
			}
		})
	}
	read := func(ctx context.Context, c *Cache, a, b int) (v [2]int64, err error) {
		tokens := []string{row(a), row(b)}
		if s.nested {
			tokens = tokens[:1]
		}
		return Fetch(ctx, c, fmt.Sprint("page", a, b), tokens, func(ctx context.Context) ([2]int64, error) {
			var v [2]int64
			v[0] = data[a].Load()
			time.Sleep(rand.N(2 * time.Millisecond))
			if s.nested {
				var err error
				v[1], err = Fetch(ctx, c, fmt.Sprint("part", b), []string{row(b)}, func(context.Context) (int64, error) {
					v := data[b].Load()
					time.Sleep(rand.N(time.Millisecond))
					return v, nil
				})
				return v, err
			}
			v[1] = data[b].Load()
			time.Sleep(rand.N(time.Millisecond))
			return v, nil
		})
	}
	for r := range readers {
		wg.Go(func() {
			for ctx.Err() == nil && (s.enough == 0 || nStale.Load() < s.enough) {
				a := rand.N(rows)
				b := (a + 1) % rows
				want := [2]int64{acked[a].Load(), acked[b].Load()}
				got, err := read(ctx, caches[r%processes], a, b)
				if err != nil {
					continue
				}
				nReads.Add(1)
				if got[0] < want[0] || got[1] < want[1] {
					nStale.Add(1)
				}
			}
			if s.enough > 0 && nStale.Load() >= s.enough {
				cancel()
			}
		})
	}
	wg.Wait()
	return nReads.Load(), nStale.Load()
}

func TestStress(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]stress{
		"default":     {},
		"nested":      {nested: true},
		"skip absent": {opts: []Option{WithAbsentTokens(AbsentSkip)}},
		"payloads":    {nested: true, opts: []Option{WithPayloadCache(1 << 20)}},
		"no lease":    {nested: true, opts: []Option{WithDefaults(NoLease())}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.server, s.losses, s.until = servertest.OwnRedis(t), true, 3*time.Second
			var reads int64
			for range 10 { // once, unless the machine is too busy
				r, stale := s.run(t)
				require.Zero(t, stale, "of %d", r)
				if reads += r; reads > 100 {
					break
				}
			}
			require.Greater(t, reads, int64(100))
			t.Logf("0 of %d reads stale", reads)
		})
	}
}

// The same must come out stale with each known mistake.
func TestStressFindsMistakes(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]stress{
		"absent tokens count 0": {losses: true, opts: []Option{WithLegacyCounters()}},
		"readers create, INCR starts at 1": {losses: true, seams: seams{
			bump: newScript(`for i = 1 + ARGV[1], #KEYS do redis.call('INCR', KEYS[i]) end return 1`),
			seed: newScript(`local out = {} for i = 1 + ARGV[1], #KEYS do redis.call('SET', KEYS[i], 1, 'NX') out[#out + 1] = redis.call('GET', KEYS[i]) end return out`),
		}},
		"flight by name": {seams: seams{flightByName: true}},
		"version after the data": {opts: []Option{WithDefaults(NoLease())}, seams: seams{beforeStore: func(f *Fragment, e *entry) {
			if v, err := f.c.readTokens(context.Background(), f.c.redis.rdb, f.plan.tokens); err == nil {
				e.version = sum(v)
			}
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.server, s.until, s.enough = servertest.OwnRedis(t), 30*time.Second, 1
			reads, stale := s.run(t)
			require.Positive(t, stale, "of %d", reads)
			t.Logf("found within %d reads", reads)
		})
	}
}
