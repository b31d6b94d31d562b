package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func TestEveryVariantReturnsThePage(t *testing.T) {
	t.Parallel()
	l, err := openLab(t.Context(), servertest.OwnRedis(t).Addr(), 1<<10)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.close()) })
	require.Equal(t, baseline, l.variants[0].name)
	require.Len(t, l.keys[0], 9) // four tokens, three groups, the generation, the fragment
	require.NoError(t, l.check(t.Context()))

	rdb := redis.NewClient(&redis.Options{Addr: l.addr})
	defer rdb.Close()
	require.NoError(t, rdb.Set(t.Context(), l.keys[pages-1][8], "other", 0).Err())
	require.ErrorContains(t, l.check(t.Context()), baseline)
}

func TestReport(t *testing.T) {
	t.Parallel()
	p := plan{sizes: []int{1 << 10}, goroutines: []int{1, 4}, rounds: 1, length: 2 * time.Millisecond}
	addr := servertest.OwnRedis(t).Addr()
	table1, err := p.measure(t.Context(), addr, 1<<10)
	require.NoError(t, err)
	about, err := describe(t.Context(), addr, loadAverage())
	require.NoError(t, err)

	file := filepath.Join(t.TempDir(), "benchmarks.md")
	require.ErrorContains(t, insert(file, nil), "no such file")
	require.NoError(t, os.WriteFile(file, []byte("# Benchmarks\n"), 0o600))
	require.ErrorContains(t, insert(file, nil), beginMark)
	require.NoError(t, os.WriteFile(file, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o600))
	var out bytes.Buffer
	report(&out, p, about, []table{table1})
	require.NoError(t, insert(file, out.Bytes()))
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	text := string(got)
	require.True(t, strings.HasPrefix(text, "before\n") && strings.HasSuffix(text, "\nafter\n"))
	require.NotContains(t, text, "old\n")
	require.Contains(t, text, "| "+baseline+" |")
	require.Contains(t, text, "| 1.00 |")
	require.Equal(t, len(table1.rows)+2, strings.Count(text, "\n| "))
}

func TestMedian(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 2, median([]float64{9, 1, 2}), 0)
}
