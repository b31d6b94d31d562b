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

// compare runs all variants side by side. The first is the baseline.
func (p plan) compare(ctx context.Context, variants []variant, goroutines int) ([]column, error) {
	took := make([][]float64, len(variants))   // nanoseconds per hit
	ratios := make([][]float64, len(variants)) // within a round
	for range p.rounds {
		round := make([]float64, len(variants))
		for _, i := range rand.Perm(len(variants)) {
			var err error
			if round[i], err = hammer(ctx, variants[i], goroutines, p.length); err != nil {
				return nil, fmt.Errorf("%s: %w", variants[i].name, err)
			}
		}
		for i, ns := range round {
			took[i] = append(took[i], ns)
			ratios[i] = append(ratios[i], round[0]/ns)
		}
	}
	columns := make([]column, len(variants))
	for i := range columns {
		columns[i] = column{time.Duration(median(took[i])), median(ratios[i])}
	}
	return columns, nil
}

// hammer returns how many nanoseconds of wall clock one hit takes.
func hammer(ctx context.Context, v variant, goroutines int, length time.Duration) (float64, error) {
	const batch = 8 // between two looks at the clock's flag
	var (
		stop   atomic.Bool
		hits   atomic.Int64
		failed = make(chan error, goroutines)
		wg     sync.WaitGroup
	)
	start := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	for range goroutines {
		wg.Go(func() {
			n := int64(0)
			defer func() { hits.Add(n) }()
			for !stop.Load() {
				for range batch {
					if _, err := v.hit(ctx); err != nil {
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
