package icache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// TestRandomHistories does everything that can happen to a cache, one thing
// after another, and looks after each Fetch that the guarantee has held.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]Option{
		"create":   nil,
		"skip":     {WithAbsentTokens(AbsentSkip), WithTokenTTL(time.Hour)},
		"payloads": {WithPayloadCache(1 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := dial(t, servertest.OwnRedis(t).URL()) // it gets flushed
			rapid.Check(t, func(rt *rapid.T) {
				require.NoError(rt, rdb.FlushAll(t.Context()).Err())
				newHistory(t, rt, rdb, opts).run()
			})
		})
	}
}

const historyRows = 3

type history struct {
	t      *rapid.T
	ctx    context.Context
	rdb    *redis.Client
	caches [2]*Cache
	data   [historyRows]int
	acked  [historyRows]int
}

func newHistory(t *testing.T, rt *rapid.T, rdb *redis.Client, opts []Option) *history {
	t.Helper()
	h := &history{t: rt, ctx: t.Context(), rdb: rdb}
	for i := range h.caches {
		c, err := New(rdb, append([]Option{WithTimeout(5 * time.Second)}, opts...)...)
		require.NoError(rt, err)
		h.caches[i] = c
	}
	return h
}

func (h *history) cache() *Cache {
	return h.caches[rapid.IntRange(0, len(h.caches)-1).Draw(h.t, "process")]
}
func (h *history) row() int           { return rapid.IntRange(0, historyRows-1).Draw(h.t, "row") }
func (h *history) token(i int) string { return fmt.Sprint("row:", i) }
func (h *history) key(i int) string   { return h.caches[0].keys.key(h.token(i)) }

func (h *history) run() {
	h.t.Repeat(map[string]func(*rapid.T){
		"commit": func(*rapid.T) { h.data[h.row()]++ },
		"increment": func(*rapid.T) {
			i := h.row()
			tokens := rapid.SampledFrom([][]string{{h.token(i)}, {h.token(i), h.token(i), "x:1"}, {"row:*"}, {Generation}}).Draw(h.t, "tokens")
			n := h.data
			require.NoError(h.t, h.cache().IncrMany(h.ctx, tokens))
			if tokens[0] != h.token(i) {
				h.acked = n
			} else {
				h.acked[i] = n[i]
			}
		},
		"increment all": func(*rapid.T) {
			n := h.data
			_, err := h.cache().IncrAll(h.ctx)
			require.NoError(h.t, err)
			h.acked = n
		},
		"foreign INCR": func(*rapid.T) {
			i := h.row()
			if h.rdb.Exists(h.ctx, h.key(i)).Val() == 1 && h.rdb.Incr(h.ctx, h.key(i)).Err() == nil {
				h.acked[i] = h.data[i]
			}
		},
		"foreign UNLINK": func(*rapid.T) {
			i := h.row()
			require.NoError(h.t, h.rdb.Unlink(h.ctx, h.key(i)).Err())
			h.acked[i] = h.data[i]
		},
		"lose a token": func(*rapid.T) { require.NoError(h.t, h.rdb.Del(h.ctx, h.key(h.row())).Err()) },
		"expire":       func(*rapid.T) { require.NoError(h.t, h.rdb.PExpire(h.ctx, h.key(h.row()), 0).Err()) },
		"lose everything": func(*rapid.T) {
			require.NoError(h.t, h.rdb.FlushAll(h.ctx).Err())
		},
		"lose a fragment": func(*rapid.T) {
			if k, err := h.rdb.RandomKey(h.ctx).Result(); err == nil {
				require.NoError(h.t, h.rdb.Del(h.ctx, k).Err())
			}
		},
		"garbage in a token": func(*rapid.T) {
			require.NoError(h.t, h.rdb.Set(h.ctx, h.key(h.row()), "garbage", 0).Err())
		},
		"fetch":             func(*rapid.T) { h.fetch(h.row(), h.row(), false, false) },
		"fetch nested":      func(*rapid.T) { h.fetch(h.row(), h.row(), true, false) },
		"change underneath": func(*rapid.T) { h.fetch(h.row(), h.row(), true, true) },
		"fail": func(*rapid.T) {
			_, err := Fetch(h.ctx, h.cache(), "failing", []string{h.token(h.row())}, func(ctx context.Context) (int, error) {
				Depend(ctx, h.token(h.row()))
				return 0, errTest
			})
			require.ErrorIs(h.t, err, errTest)
		},
	})
}

func (h *history) fetch(a, b int, nested, change bool) {
	want := [2]int{h.acked[a], h.acked[b]}
	c := h.cache()
	tokens := []string{h.token(a), h.token(b)}
	if nested {
		tokens = tokens[:1]
	}
	got, err := Fetch(h.ctx, c, fmt.Sprint("page", a, b, nested), tokens, func(ctx context.Context) ([2]int, error) {
		var v [2]int
		v[0] = h.data[a]
		if change {
			i := h.row()
			h.data[i]++
			require.NoError(h.t, c.Incr(h.ctx, h.token(i)))
			h.acked[i] = h.data[i]
		}
		if !nested {
			v[1] = h.data[b]
			return v, nil
		}
		var err error
		v[1], err = Fetch(ctx, c, fmt.Sprint("part", b), []string{h.token(b)}, constant(h.data[b]))
		return v, err
	})
	require.NoError(h.t, err)
	require.GreaterOrEqual(h.t, got[0], want[0])
	require.GreaterOrEqual(h.t, got[1], want[1])
}

// TestLinearizable checks concurrent histories with porcupine: each row is a
// register that increments advance and from which a read yields at least the
// last of them.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	type input struct {
		row int
		n   int64 // of a write, 0 for a read
	}
	model := porcupine.Model{
		Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
			byRow := make(map[int][]porcupine.Operation)
			for _, op := range ops {
				row := op.Input.(input).row
				byRow[row] = append(byRow[row], op)
			}
			var out [][]porcupine.Operation
			for _, ops := range byRow {
				out = append(out, ops)
			}
			return out
		},
		Init: func() any { return int64(0) },
		Step: func(state, in, out any) (bool, any) {
			if n := in.(input).n; n > 0 {
				return true, max(n, state.(int64))
			}
			return out.(int64) >= state.(int64), state
		},
		Equal: func(a, b any) bool { return a == b },
	}
	for name, broken := range map[string]bool{"ours": false, "flight by name": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rows, readers = 2, 8
			url := servertest.OwnRedis(t).URL()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var data [rows]atomic.Int64
			var mu sync.Mutex
			var ops []porcupine.Operation
			start := time.Now()
			record := func(client int, in input, f func() int64) {
				call := time.Since(start)
				out := f()
				end := time.Since(start)
				mu.Lock()
				ops = append(ops, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(end)})
				mu.Unlock()
			}
			caches := [2]*Cache{cacheOn(t, dial(t, url)), cacheOn(t, dial(t, url))}
			for _, c := range caches {
				c.seams.flightByName = broken
			}
			var wg sync.WaitGroup
			for row := range rows {
				wg.Go(func() {
					for ctx.Err() == nil {
						n := data[row].Add(1)
						record(row, input{row, n}, func() int64 {
							require.NoError(t, caches[0].Incr(context.Background(), fmt.Sprint("row:", row)))
							return 0
						})
						time.Sleep(rand.N(5 * time.Millisecond))
					}
				})
			}
			for r := range readers {
				wg.Go(func() {
					for ctx.Err() == nil {
						row := rand.N(rows)
						record(rows+r, input{row, 0}, func() int64 {
							v, err := Fetch(context.Background(), caches[r%2], "k", []string{fmt.Sprint("row:", row)}, func(context.Context) (int64, error) {
								v := data[row].Load()
								time.Sleep(rand.N(2 * time.Millisecond))
								return v, nil
							})
							if err != nil {
								t.Error(err)
							}
							return v
						})
					}
				})
			}
			wg.Wait()
			require.Greater(t, len(ops), 50)
			result := porcupine.CheckOperationsTimeout(model, ops, 30*time.Second)
			if broken {
				require.Equal(t, porcupine.Illegal, result, "the mistake is found in %d operations", len(ops))
			} else {
				require.Equal(t, porcupine.Ok, result, "%d operations", len(ops))
			}
		})
	}
}
