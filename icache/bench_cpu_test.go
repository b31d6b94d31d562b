//go:build unix

package icache

import (
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// BenchmarkHitProcessor compares a hit with a bare MGET of the same keys in
// processor time of this process, which other work on the machine does not
// lengthen, and which leaves out the time of Redis, the same for both. The
// two run in turn; x-MGET is the median of the ratios of neighbours, above 1
// if a hit takes less.
func BenchmarkHitProcessor(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10} {
		payload := strings.Repeat("x", size)
		c, rdb := newCache(b, WithDefaults(WithCompression(0, nil)))
		batched, _ := newCache(b, WithDefaults(WithCompression(0, nil)), WithAutoPipeline())
		ap, err := dial(b, "redis://"+rdb.Options().Addr).AutoPipeline()
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, ap.Close()) })
		for _, v := range []struct {
			name       string
			cache      *Cache
			bare       redis.Cmdable
			goroutines int
		}{
			{"plain", c, rdb, 1},
			{"plain-50", c, rdb, 50},
			{"batched-50", batched, ap, 50},
		} {
			b.Run(v.name+"-"+sizeName(size), func(b *testing.B) {
				ctx := b.Context()
				fn := constant(payload)
				fetch := func() error {
					_, err := Fetch(ctx, v.cache, "page", benchTokens, fn)
					return err
				}
				require.NoError(b, fetch())
				p := v.cache.plan("page", benchTokens, &v.cache.cfg.defaults)
				keys := append(slices.Clone(p.tokenKeys), p.fragment)
				mget := func() error { return v.bare.MGet(ctx, keys...).Err() }
				var took [2][]float64
				for b.Loop() {
					for i, fn := range []func() error{mget, fetch} {
						took[i] = append(took[i], processorTime(b, v.goroutines, fn))
					}
				}
				ratios := make([]float64, len(took[0]))
				for i := range ratios {
					ratios[i] = took[0][i] / took[1][i]
				}
				b.ReportMetric(medianOf(took[0]), "ns/MGET")
				b.ReportMetric(medianOf(took[1]), "ns/Fetch")
				b.ReportMetric(medianOf(ratios), "x-MGET")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func sizeName(n int) string { return map[int]string{1 << 10: "1KiB", 16 << 10: "16KiB"}[n] }

// processorTime is that of one call, in nanoseconds.
func processorTime(b *testing.B, goroutines int, fn func() error) float64 {
	const calls = 5000
	before := processor(b)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range calls / goroutines {
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(processor(b)-before) / calls
}

// processor is the processor time that this process has used.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func medianOf(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
