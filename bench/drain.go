package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// drain measures how fast a restarted agent works off a backlog of single-row
// transactions, each with a key of its own, and how much memory it takes.
func drain(ctx context.Context, l *lab, opt options) (err error) {
	a, err := l.startAgent(ctx) // so that there is a cursor to go on from
	if err != nil {
		return err
	}
	if err := a.stop(); err != nil {
		return err
	}
	if err := l.backlog(ctx, opt.rows); err != nil {
		return err
	}
	var rows int
	if err := l.db.QueryRow(ctx, "SELECT count(*) FROM icache.outbox").Scan(&rows); err != nil {
		return err
	}
	start := time.Now()
	if a, err = l.startAgent(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	took := time.Since(start)
	cpu, peak, err := a.usage()
	if err != nil {
		return err
	}
	fmt.Printf("\n### Backlog of %d outbox rows, each a transaction with one key\n\n", rows)
	fmt.Printf("drained in %.1f s, start of the agent included: %.0f rows/s; agent %.1f s of processor time, peak memory %.1f MiB\n",
		took.Seconds(), float64(rows)/took.Seconds(), cpu.Seconds(), float64(peak)/1024)
	return nil
}

// backlog commits single-row updates, each a transaction of its own.
func (l *lab) backlog(ctx context.Context, rows int) error {
	const workers = 2
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for w := range workers {
		wg.Go(func() {
			errs <- func() error {
				conn, err := pgx.Connect(ctx, l.url)
				if err != nil {
					return err
				}
				defer conn.Close(ctx)
				if _, err = conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
					return err
				}
				_, err = conn.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
						UPDATE item SET qty = qty + 1 WHERE id = 1 + (i * %d + %d) %% 90000;
						COMMIT;
					END LOOP; END $$`, rows/workers, workers, w))
				return err
			}()
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// idle measures what an agent costs while nothing happens.
func idle(ctx context.Context, l *lab, _ options) (err error) {
	a, err := l.startAgent(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	time.Sleep(5 * time.Second)
	before, _, err := a.usage()
	if err != nil {
		return err
	}
	const watched = 30 * time.Second
	time.Sleep(watched)
	after, peak, err := a.usage()
	if err != nil {
		return err
	}
	fmt.Printf("\n### Idle agent\n\n%.2f %% of a core over %s, peak memory %.1f MiB\n",
		100*(after-before).Seconds()/watched.Seconds(), watched, float64(peak)/1024)
	return nil
}
