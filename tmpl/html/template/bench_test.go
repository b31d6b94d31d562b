//go:build linux

package template_test

import (
	"context"
	"crypto/rand"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl/html/template"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

// BenchmarkHit compares hits of the tag to hits of Fetch with the same tokens.
// A page of blocks and a loop of Fetch take turns, so that a noisy machine disturbs
// both; the difference is what the tag costs. Medians are told, in wall
// time and in processor time of this process.
func BenchmarkHit(b *testing.B) {
	const blocks = 100
	cache := tmpltest.Cache(b)
	body := strings.Repeat("x", 1024)
	page := template.Must(template.New("page").Parse(
		`{{range .IDs}}{{icache "rating" "movies" .}}{{$.Body}}{{endicache}}{{end}}`)).Cache(cache)
	data := struct {
		IDs  []int
		Body string
	}{make([]int, blocks), body}
	tokens := make([][]string, blocks)
	for i := range data.IDs {
		data.IDs[i] = i
		tokens[i] = []string{"rating", "movies", strconv.Itoa(i)}
	}
	ctx := context.Background()
	fetch := func() {
		ctx := icache.ReadAhead(ctx, "fetch") // as an execution has it
		for i := range blocks {
			_, err := icache.Fetch(ctx, cache, "fetch", tokens[i], func(context.Context) ([]byte, error) { return []byte(body), nil })
			require.NoError(b, err)
		}
	}
	block := func() { require.NoError(b, page.ExecuteContext(ctx, io.Discard, data)) }
	fetch()
	block()
	var fetches, beyond, beyondCPU []time.Duration
	for b.Loop() {
		var wall, cpu [2]time.Duration
		for _, i := range mathrand.Perm(2) {
			start, startCPU := time.Now(), processTime(b)
			[]func(){fetch, block}[i]()
			wall[i], cpu[i] = time.Since(start), processTime(b)-startCPU
		}
		fetches = append(fetches, wall[0])
		beyond = append(beyond, wall[1]-wall[0])
		beyondCPU = append(beyondCPU, cpu[1]-cpu[0])
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Nanoseconds()) / blocks
	}
	b.ReportMetric(median(fetches), "ns/fetch")
	b.ReportMetric(median(beyond), "ns/beyond")
	b.ReportMetric(median(beyondCPU), "cpu-ns/beyond")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCollection is 500 cached rows of 1 KiB: read one at a time with
// Fetch, read by a page, and, after one row has changed, by a page with a
// cached list around them. Round trips and medians are told.
func BenchmarkCollection(b *testing.B) {
	cache, other, trips := tmpltest.Processes(b)
	const row = `{{icache "row" .Token}}{{.Title}}{{endicache}}`
	flat := template.Must(template.New("flat").Parse(`{{range .}}` + row + `{{end}}`)).Cache(cache)
	nested := template.Must(template.New("nested").Parse(`{{icache "list"}}{{range .}}` + row + `{{end}}{{endicache}}`)).Cache(cache)
	movies := make([]tmpltest.Movie, 500)
	tokens := make([][]string, len(movies))
	for i := range movies {
		movies[i] = tmpltest.Movie{ID: i, Title: rand.Text()}
		for len(movies[i].Title) < 1024 {
			movies[i].Title += rand.Text()
		}
		tokens[i] = []string{movies[i].Token()}
	}
	ctx := context.Background()
	cases := []struct {
		name string
		run  func()
	}{
		{"one-by-one", func() {
			for i := range movies {
				_, err := icache.Fetch(ctx, cache, "fetch", tokens[i], func(context.Context) (string, error) { return movies[i].Title, nil })
				require.NoError(b, err)
			}
		}},
		{"page", func() { require.NoError(b, flat.ExecuteContext(ctx, io.Discard, movies)) }},
		{"one-changed", func() { require.NoError(b, nested.ExecuteContext(ctx, io.Discard, movies)) }},
	}
	wall, cpu, n := make([][]time.Duration, 3), make([][]time.Duration, 3), make([]int64, 3)
	turn := func(i int, record bool) {
		if i == 2 {
			require.NoError(b, other.Incr(ctx, movies[mathrand.IntN(len(movies))].Token()))
		}
		trips.Reset()
		start, startCPU := time.Now(), processTime(b)
		cases[i].run()
		if record {
			wall[i] = append(wall[i], time.Since(start))
			cpu[i] = append(cpu[i], processTime(b)-startCPU)
			n[i] = trips.N.Load()
		}
	}
	for range 3 {
		for i := range cases {
			turn(i, false)
		}
	}
	for b.Loop() {
		for _, i := range mathrand.Perm(3) {
			turn(i, true)
		}
	}
	for i, c := range cases {
		slices.Sort(wall[i])
		slices.Sort(cpu[i])
		b.ReportMetric(float64(n[i]), c.name+"-trips")
		b.ReportMetric(float64(wall[i][len(wall[i])/2].Microseconds()), c.name+"-µs")
		b.ReportMetric(float64(cpu[i][len(cpu[i])/2].Microseconds()), c.name+"-cpu-µs")
	}
	b.ReportMetric(0, "ns/op")
}

// processTime is the processor time that this process has used.
func processTime(tb testing.TB) time.Duration {
	var ts unix.Timespec
	require.NoError(tb, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts))
	return time.Duration(ts.Nano())
}

// BenchmarkOverhead is the tag without a cache: parsing arguments, capturing,
// and what the template package does to call two functions.
func BenchmarkOverhead(b *testing.B) {
	const blocks = 100
	text := `{{icache "rating" "movies" .ID}}x{{endicache}}`
	data := map[string]any{"ID": 42}
	for name, text := range map[string]string{"tag": text, "none": "x"} {
		page := template.Must(template.New("page").Parse(strings.Repeat(text, blocks)))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, page.Execute(io.Discard, data))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/blocks, "ns/block")
		})
	}
}
