package icache

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// BenchmarkIncrMany is what the agent's drain does: batches of distinct tokens.
func BenchmarkIncrMany(b *testing.B) {
	const batch, batches = 4096, 16
	for name, tc := range map[string]struct {
		exist bool
		ttl   time.Duration
		opts  []Option
	}{
		"existing":      {exist: true},
		"existing, TTL": {exist: true, ttl: time.Hour},
		"absent":        {},
		"absent, skip":  {opts: []Option{WithAbsentTokens(AbsentSkip)}},
	} {
		b.Run(name, func(b *testing.B) {
			rdb := dial(b, servertest.OwnRedis(b).URL())
			c := cacheOn(b, rdb, tc.opts...)
			ctx := b.Context()
			tokens := make([][]string, batches)
			for i := range tokens {
				for j := range batch {
					tokens[i] = append(tokens[i], fmt.Sprint("movie:", i*batch+j))
				}
			}
			pipe := rdb.Pipeline()
			for _, list := range tokens {
				for _, t := range list {
					if tc.exist {
						pipe.Set(ctx, c.keys.key(t), 1795400279134781, tc.ttl)
					}
				}
			}
			if tc.exist {
				_, err := pipe.Exec(ctx)
				require.NoError(b, err)
			}
			b.ReportAllocs()
			before := serverCPU(b, rdb)
			start, n := time.Now(), 0
			for b.Loop() {
				if err := c.IncrMany(ctx, tokens[n%batches]); err != nil {
					b.Fatal(err)
				}
				n++
				if !tc.exist && n%batches == 0 { // the tokens are not absent any more
					b.StopTimer()
					pause := time.Now()
					require.NoError(b, rdb.FlushAll(ctx).Err())
					start = start.Add(time.Since(pause))
					b.StartTimer()
				}
			}
			total := float64(n * batch)
			b.ReportMetric(total/time.Since(start).Seconds(), "tokens/s")
			b.ReportMetric((serverCPU(b, rdb)-before)*1e9/total, "server-ns/token")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// serverCPU is the processor time that the server's main thread has used, in
// seconds.
func serverCPU(tb testing.TB, rdb *redis.Client) float64 {
	tb.Helper()
	info, err := rdb.Info(tb.Context(), "cpu").Result()
	require.NoError(tb, err)
	var total float64
	for line := range strings.SplitSeq(info, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if name == "used_cpu_user_main_thread" || name == "used_cpu_sys_main_thread" {
			f, err := strconv.ParseFloat(value, 64)
			require.NoError(tb, err)
			total += f
		}
	}
	return total
}
