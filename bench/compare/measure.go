package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// plan says what to measure, and for how long.
type plan struct {
	sizes      []int // of payloads
	goroutines []int
	rounds     int
	length     time.Duration
}

// table has the figures for one payload.
type table struct {
	size int
	rows []row
}

type row struct {
	variant
	columns []column // one per number of goroutines
}

type column struct {
	took  time.Duration // wall clock by hits of all goroutines
	ratio float64       // of throughput to that of the baseline
}

func (p plan) measure(ctx context.Context, addr string, size int) (_ table, err error) {
	l, err := openLab(ctx, addr, size)
	if err != nil {
		return table{}, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.check(ctx); err != nil {
		return table{}, err
	}
	t := table{size: size}
	for _, v := range l.variants {
		t.rows = append(t.rows, row{variant: v})
	}
	for _, g := range p.goroutines {
		columns, err := p.compare(ctx, l.variants, g)
		if err != nil {
			return table{}, err
		}
		for i := range t.rows {
			t.rows[i].columns = append(t.rows[i].columns, columns[i])
		}
	}
	return t, nil
}

// compare runs the variants in turn, each right next to the baseline, which is
// the first of them: what else goes on changes from one moment to the next.
func (p plan) compare(ctx context.Context, variants []variant, goroutines int) ([]column, error) {
	took := make([][]float64, len(variants)) // nanoseconds per hit
	ratios := make([][]float64, len(variants))
	for range p.rounds {
		for _, i := range rand.Perm(len(variants)) {
			if i == 0 {
				continue
			}
			pair := []int{0, i}
			if rand.N(2) == 0 {
				slices.Reverse(pair)
			}
			var ns [2]float64 // of the baseline, of the variant
			for _, k := range pair {
				n, err := hammer(ctx, variants[k], goroutines, p.length)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", variants[k].name, err)
				}
				took[k] = append(took[k], n)
				ns[min(k, 1)] = n
			}
			ratios[i] = append(ratios[i], ns[0]/ns[1])
		}
	}
	ratios[0] = []float64{1}
	columns := make([]column, len(variants))
	for i := range columns {
		columns[i] = column{time.Duration(median(took[i])), median(ratios[i])}
	}
	return columns, nil
}

// hammer returns how many nanoseconds of wall clock one hit takes.
func hammer(ctx context.Context, v variant, goroutines int, length time.Duration) (float64, error) {
	const batch = 4 // between two looks at the clock's flag
	var (
		stop   atomic.Bool
		hits   atomic.Int64
		failed = make(chan error, goroutines)
		wg     sync.WaitGroup
	)
	start := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	for g := range goroutines {
		wg.Go(func() {
			// Each in an order of its own, so that they do not meet all the time.
			n, page, step := int64(0), g%pages, 2*rand.N(pages/2)+1
			defer func() { hits.Add(n) }()
			for !stop.Load() {
				for range batch {
					page = (page + step) % pages
					if _, err := v.hit(ctx, page); err != nil {
						failed <- err
						return
					}
				}
				n += batch
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	return float64(took) / float64(hits.Load()), nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
