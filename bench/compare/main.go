// Command compare measures a hit of package icache beside what else a Go
// program might use, and prints ratios to a bare MGET as a Markdown table.
//
//	go run ./bench/compare                             print
//	go run ./bench/compare -write docs/benchmarks.md   put it between the marks in that file
//
// The variants run in turn, for a moment each and right next to the bare MGET,
// many times over; a ratio is the median of the ratios of such pairs, because
// other work on the machine then slows both sides alike. It starts a Redis of
// its own from local binaries.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/icache-go/icache-agent/internal/localserver"
)

func main() {
	p := plan{sizes: []int{1 << 10, 16 << 10}, goroutines: []int{1, 50}}
	flag.IntVar(&p.rounds, "rounds", 41, "rounds; medians are printed")
	flag.DurationVar(&p.length, "length", 40*time.Millisecond, "length of each run in a round")
	write := flag.String("write", "", "Markdown `file` to put the table in, between "+beginMark+" and "+endMark)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, p, *write); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, file string) (err error) {
	server, err := localserver.StartRedis(ctx, localserver.RedisConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()

	before := loadAverage()
	var tables []table
	for _, size := range p.sizes {
		t, err := p.measure(ctx, server.Addr(), size)
		if err != nil {
			return err
		}
		tables = append(tables, t)
	}
	about, err := describe(ctx, server.Addr(), before)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	report(&out, p, about, tables)
	if file == "" {
		_, err := out.WriteTo(os.Stdout)
		return err
	}
	return insert(file, out.Bytes())
}
