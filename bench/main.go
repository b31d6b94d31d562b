// Command bench measures the agent against the figures of docs/benchmarks.md
// and prints them as Markdown tables. Everything that is compared runs side by
// side in one run, interleaved, and is given as a ratio; absolute figures are
// those of the machine at hand.
//
//	go run ./bench                      all, about ten minutes
//	go run ./bench -run latency,drain   some
//
// It starts a Postgres and a Redis of its own from local binaries, and runs the
// agent as the binary that users run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"
)

type options struct {
	seconds int
	rounds  int
	rows    int
}

func main() {
	var opt options
	run := flag.String("run", "writes,bulk,latency,load,drain,idle", "what to measure, separated by commas")
	flag.IntVar(&opt.seconds, "seconds", 5, "length of one run of a write benchmark")
	flag.IntVar(&opt.rounds, "rounds", 5, "rounds of each comparison; medians are printed")
	flag.IntVar(&opt.rows, "rows", 1_000_000, "outbox rows of the drain benchmark")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, strings.Split(*run, ","), opt); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, names []string, opt options) (err error) {
	l, err := openLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	fmt.Printf("%s, %d CPUs, %s, %s\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), l.postgresVersion, l.redisVersion)
	for _, name := range names {
		f, ok := map[string]func(context.Context, *lab, options) error{
			"writes": writes, "bulk": bulk, "latency": latency, "load": load, "drain": drain, "idle": idle,
		}[name]
		if !ok {
			return fmt.Errorf("unknown benchmark %q", name)
		}
		if err := f(ctx, l, opt); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
