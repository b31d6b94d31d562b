package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// latency measures the time from the moment a commit has been acknowledged to
// the client until the token has been bumped. Both ends are read from the clock
// of this machine: the token's new value is the time of the Redis server.
//
// The same is done for the obvious alternative, in turn: a row trigger that
// sends the key with NOTIFY, and a loop around WaitForNotification and INCR.
func latency(ctx context.Context, l *lab, _ options) (err error) {
	a, err := l.startAgent(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	n, err := startNaive(ctx, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	fmt.Println("\n### Commit acknowledged → token bumped")
	fmt.Println("\n| commits/s | icache p50 | p99 | max | NOTIFY payload + INCR p50 | p99 | max | p50 ratio |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, rate := range []int{50, 200, 1000} {
		var ours, naive []time.Duration
		for range 3 {
			d, err := probe(ctx, l, "item", rate, func(id int) (time.Time, error) {
				v, err := l.token(ctx, id)
				return time.UnixMicro(v), err
			})
			if err != nil {
				return err
			}
			ours = append(ours, d...)
			d, err = probe(ctx, l, "naive", rate, func(id int) (time.Time, error) { return n.bumped(id), nil })
			if err != nil {
				return err
			}
			naive = append(naive, d...)
		}
		o, v := percentile(ours, .5), percentile(naive, .5)
		fmt.Printf("| %d | %s | %s | %s | %s | %s | %s | %.1f |\n", rate, ms(o), ms(percentile(ours, .99)), ms(percentile(ours, 1)),
			ms(v), ms(percentile(naive, .99)), ms(percentile(naive, 1)), float64(o)/float64(max(v, time.Microsecond)))
	}
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

// probe commits at a steady rate, over several connections if one cannot keep
// up, and returns how long after each commit bumpedAt says the token moved.
func probe(ctx context.Context, l *lab, table string, rate int, bumpedAt func(id int) (time.Time, error)) ([]time.Duration, error) {
	total := min(rate*3, 1500)
	workers := 1 + rate/250
	committed := make([]time.Time, total)
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	start := time.Now().Add(50 * time.Millisecond)
	for w := range workers {
		conn, err := pgx.Connect(ctx, l.url)
		if err != nil {
			return nil, err
		}
		defer conn.Close(ctx)
		wg.Go(func() {
			for i := w; i < total; i += workers {
				time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))))
				if _, err := conn.Exec(ctx, "UPDATE "+table+" SET qty = qty + 1 WHERE id = $1", i+1); err != nil {
					errs <- err
					return
				}
				committed[i] = time.Now()
			}
		})
	}
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return nil, err
	}
	time.Sleep(300 * time.Millisecond)
	delays := make([]time.Duration, total)
	for i := range total {
		at, err := bumpedAt(i + 1)
		if err != nil {
			return nil, err
		}
		if at.Before(committed[i].Add(-time.Second)) {
			return nil, fmt.Errorf("the token of row %d of %s was not bumped", i+1, table)
		}
		delays[i] = max(0, at.Sub(committed[i])) // the bump may come before the client has its answer
	}
	return delays, nil
}

// naive is the alternative.
type naive struct {
	cancel context.CancelFunc
	done   chan error
	mu     sync.Mutex
	at     map[string]time.Time
}

func startNaive(ctx context.Context, l *lab) (*naive, error) {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := pgx.Connect(ctx, l.url)
	if err == nil {
		_, err = conn.Exec(ctx, "LISTEN naive")
	}
	if err != nil {
		cancel()
		return nil, err
	}
	n := &naive{cancel: cancel, done: make(chan error, 1), at: make(map[string]time.Time)}
	go func() {
		defer conn.Close(context.WithoutCancel(ctx))
		n.done <- func() error {
			for {
				note, err := conn.WaitForNotification(ctx)
				if err != nil {
					return err
				}
				pipe := l.rdb.Pipeline()
				pipe.Incr(ctx, "naive:"+note.Payload)
				at := pipe.Time(ctx)
				if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
					return err
				}
				n.mu.Lock()
				n.at[note.Payload] = at.Val()
				n.mu.Unlock()
			}
		}()
	}()
	return n, nil
}

func (n *naive) bumped(id int) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at[fmt.Sprint(id)]
}

func (n *naive) stop() error {
	n.cancel()
	if err := <-n.done; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
