package icache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var benchTokens = []string{"movies", "movie:42", "user:7", "genre:3"}

// benchPayload is about 1 KiB of text that compresses as HTML does.
var benchPayload = func() string {
	var b strings.Builder
	for i := range 13 {
		fmt.Fprintf(&b, "<li class=movie id=m%d><a href=/movies/%d>Film %d</a> <span>%d stars, %x</span></li>\n", i, i*7919, i, i%5+1, i*i*7919*104729)
	}
	return b.String()
}()

// BenchmarkHit compares a hit with a bare MGET of the same keys.
func BenchmarkHit(b *testing.B) {
	c, rdb := newCache(b)
	ctx := b.Context()
	fetch := func() error {
		_, err := Fetch(ctx, c, "page", benchTokens, constant(benchPayload))
		return err
	}
	require.NoError(b, fetch())
	p := c.plan("page", benchTokens, &c.cfg.defaults)
	keys := append(slices.Clone(p.tokenKeys), p.fragment)
	mget := func() error { return rdb.MGet(ctx, keys...).Err() }
	variants := []struct {
		name string
		fn   func() error
	}{{"MGET", mget}, {"Fetch", fetch}}
	for _, v := range variants {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.fn(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(v.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(25)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := v.fn(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	// Interleaved, because the machine is never quiet: the ratio of medians.
	b.Run("ratio", func(b *testing.B) {
		var took [2][]time.Duration
		for b.Loop() {
			for i, v := range variants {
				start := time.Now()
				for range 50 {
					if err := v.fn(); err != nil {
						b.Fatal(err)
					}
				}
				took[i] = append(took[i], time.Since(start))
			}
		}
		b.ReportMetric(median(took[0])/median(took[1]), "×MGET")
		b.ReportMetric(0, "ns/op")
	})
	require.Zero(b, c.Stats().Misses-1)
}

func median(d []time.Duration) float64 {
	s := append([]time.Duration(nil), d...)
	slices.Sort(s)
	return float64(s[len(s)/2])
}

func TestBenchPayloadIsCompressed(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 1200, len(benchPayload), 180)
	_, id := new(fetchConfig).compress([]byte(benchPayload))
	require.Equal(t, byte(compressS2), id)
}

// BenchmarkLocalHit is a hit from the tracking L1.
func BenchmarkLocalHit(b *testing.B) {
	c, _ := newCache(b, WithTracking(time.Second))
	ctx := b.Context()
	fetch := func() error {
		_, err := Fetch(ctx, c, "page", benchTokens, constant(benchPayload))
		return err
	}
	fn := constant(benchPayload)
	for c.Stats().LocalHits == 0 {
		require.NoError(b, fetch())
	}
	b.Run("string", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Fetch(ctx, c, "page", benchTokens, fn); err != nil {
				b.Fatal(err)
			}
		}
	})
}
