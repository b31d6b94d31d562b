package icacheprom_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icacheprom"
	"github.com/icache-go/icache-agent/icache/icachetest"
)

func fetch(t *testing.T, c *icache.Cache) {
	t.Helper()
	_, err := icache.Fetch(t.Context(), c, "page", []string{"movie:42"}, func(context.Context) (string, error) {
		time.Sleep(time.Millisecond)
		return strings.Repeat("x", 300), nil
	})
	require.NoError(t, err)
}

func TestFetches(t *testing.T) {
	t.Parallel()
	m := icacheprom.New()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(m))
	c := icachetest.New(t, icache.WithHooks(m.Hooks()))
	fetch(t, c)
	fetch(t, c)
	require.NoError(t, c.Incr(t.Context(), "movie:42", "movies"))
	fetch(t, c)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP icache_fetches_total Fetches of fragments, by how they were answered and why that was not a hit.
# TYPE icache_fetches_total counter
icache_fetches_total{outcome="hit",why=""} 1
icache_fetches_total{outcome="hit-local",why=""} 0
icache_fetches_total{outcome="miss",why="absent"} 1
icache_fetches_total{outcome="miss",why="version"} 1
icache_fetches_total{outcome="shared",why=""} 0
icache_fetches_total{outcome="stale",why=""} 0
# HELP icache_increments_total Tokens incremented by this program and acknowledged by Redis.
# TYPE icache_increments_total counter
icache_increments_total 2
`), "icache_fetches_total", "icache_increments_total"))

	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			outcome := ""
			for _, l := range metric.GetLabel() {
				require.Contains(t, []string{"outcome", "why", "op"}, l.GetName())
				if l.GetName() == "outcome" {
					outcome = l.GetValue()
				}
			}
			h := metric.GetHistogram()
			switch f.GetName() + " " + outcome {
			case "icache_fetch_payload_bytes miss":
				require.EqualValues(t, 2, h.GetSampleCount())
				require.InDelta(t, 600, h.GetSampleSum(), 0)
			case "icache_fetch_compute_duration_seconds miss":
				require.EqualValues(t, 2, h.GetSampleCount())
				require.GreaterOrEqual(t, h.GetSampleSum(), 0.002)
			case "icache_fetch_redis_duration_seconds hit":
				require.EqualValues(t, 1, h.GetSampleCount())
				require.Positive(t, h.GetSampleSum())
			}
		}
	}
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// The hooks as icache calls them when things go wrong.
func TestFailures(t *testing.T) {
	t.Parallel()
	m := icacheprom.New(icacheprom.WithDurationBuckets(1), icacheprom.WithSizeBuckets(1))
	h := m.Hooks()
	ctx := t.Context()
	tokens := []string{"a", "b", "c"}
	h.Incr(ctx, icache.IncrEvent{Tokens: tokens, Err: &icache.IncrError{Tokens: tokens[:1], Err: errors.New("no reply")}})
	h.Incr(ctx, icache.IncrEvent{Tokens: tokens, Err: errors.New("no reply")})
	h.Incr(ctx, icache.IncrEvent{Tokens: tokens, Unlinked: 3})
	h.Error(ctx, "store fragment", errors.New("no reply"))
	h.Mismatch(ctx, "page", nil, nil)
	h.Fetch(ctx, icache.Event{Outcome: 200}) // unknown to this version
	require.NoError(t, testutil.CollectAndCompare(m, strings.NewReader(`
# HELP icache_errors_total Errors that no caller gets to see.
# TYPE icache_errors_total counter
icache_errors_total{op="store fragment"} 1
# HELP icache_increment_failures_total Tokens whose increment Redis has not acknowledged.
# TYPE icache_increment_failures_total counter
icache_increment_failures_total 4
# HELP icache_increment_unlinked_total Tokens deleted instead of incremented, because Redis was out of memory.
# TYPE icache_increment_unlinked_total counter
icache_increment_unlinked_total 3
# HELP icache_increments_total Tokens incremented by this program and acknowledged by Redis.
# TYPE icache_increments_total counter
icache_increments_total 5
# HELP icache_mismatches_total Fragments that were not what their computation yields, found by WithVerify.
# TYPE icache_mismatches_total counter
icache_mismatches_total 1
`), "icache_errors_total", "icache_increment_failures_total", "icache_increment_unlinked_total", "icache_increments_total", "icache_mismatches_total"))
}

func TestSeveralCaches(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	for _, name := range []string{"pages", "api"} {
		m := icacheprom.New()
		require.NoError(t, prometheus.WrapRegistererWith(prometheus.Labels{"cache": name}, reg).Register(m))
		fetch(t, icachetest.New(t, icache.WithHooks(m.Hooks())))
	}
	n, err := testutil.GatherAndCount(reg, "icache_mismatches_total")
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

func BenchmarkHook(b *testing.B) {
	h := icacheprom.New().Hooks()
	for _, o := range []icache.Outcome{icache.HitLocal, icache.Hit, icache.Miss} {
		b.Run(o.String(), func(b *testing.B) {
			b.ReportAllocs()
			e := icache.Event{Outcome: o, Bytes: 1000, Redis: time.Millisecond}
			for b.Loop() {
				h.Fetch(b.Context(), e)
			}
		})
	}
}
