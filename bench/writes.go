package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// writes compares single-row updates of a table with triggers, without an agent
// and with one, with those of a table that has none and of one that notifies for
// every row.
func writes(ctx context.Context, l *lab, opt options) error {
	pgbench := filepath.Join(l.pg.BinDir(), "pgbench")
	if _, err := os.Stat(pgbench); err != nil {
		if pgbench, err = exec.LookPath("pgbench"); err != nil {
			return err
		}
	}
	fmt.Printf("\n### Single-row UPDATE, ratio of transactions per second (median of %d rounds of %d s)\n\n", opt.rounds, opt.seconds)
	fmt.Println("| clients | commit | no trigger, tps | trigger alone ÷ no trigger | trigger and agent ÷ no trigger | NOTIFY per row ÷ no trigger | trigger and agent ÷ NOTIFY |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- |")
	for _, c := range []struct {
		clients         int
		commit, options string
	}{
		{1, "synchronous", ""},
		{8, "synchronous", ""},
		{64, "synchronous", ""},
		// A disk that takes a millisecond to flush, as network disks do.
		{8, "synchronous, flush + 1 ms", "-c commit_delay=1000 -c commit_siblings=0"},
		{64, "synchronous, flush + 1 ms", "-c commit_delay=1000 -c commit_siblings=0"},
		{8, "asynchronous", "-c synchronous_commit=off"},
	} {
		tps := func(table string) (float64, error) {
			script := l.path(table + ".sql")
			if err := writeScript(script, table); err != nil {
				return 0, err
			}
			cmd := exec.CommandContext(ctx, pgbench, "-n", "-M", "prepared", "-c", strconv.Itoa(c.clients), "-j", strconv.Itoa(min(c.clients, 2)),
				"-T", strconv.Itoa(opt.seconds), "-f", script, l.url)
			cmd.Env = append(os.Environ(), "PGOPTIONS="+c.options)
			out, err := cmd.CombinedOutput()
			if err != nil {
				return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
			}
			return tpsOf(string(out))
		}
		var base, alone, agent, naive, overNaive []float64
		for range opt.rounds {
			r, err := l.round(ctx, tps)
			if err != nil {
				return err
			}
			mean := (r.before + r.after) / 2
			base, alone, agent, naive = append(base, mean), append(alone, r.alone/mean), append(agent, r.agent/mean), append(naive, r.notify/mean)
			overNaive = append(overNaive, r.agent/r.notify)
		}
		fmt.Printf("| %d | %s | %.0f | %.2f | %.2f | %.2f | %.1f |\n", c.clients, c.commit, median(base), median(alone), median(agent), median(naive), median(overNaive))
	}
	return nil
}

// round holds transactions per second, measured one after another.
type round struct{ before, alone, agent, notify, after float64 }

func (l *lab) round(ctx context.Context, tps func(table string) (float64, error)) (r round, err error) {
	if r.before, err = tps("plain"); err != nil {
		return r, err
	}
	if r.alone, err = tps("item"); err != nil {
		return r, err
	}
	a, err := l.startAgent(ctx) // which drains what the run before has left
	if err != nil {
		return r, err
	}
	r.agent, err = tps("item")
	if err := errors.Join(err, a.stop()); err != nil {
		return r, err
	}
	if r.notify, err = tps("naive"); err != nil {
		return r, err
	}
	r.after, err = tps("plain")
	return r, err
}

// bulk compares one UPDATE of 10,000 rows with and without triggers.
func bulk(ctx context.Context, l *lab, opt options) (err error) {
	a, err := l.startAgent(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	var plain, ratios []float64
	update := func(table string, from int) (float64, error) {
		start := time.Now()
		_, err := l.db.Exec(ctx, fmt.Sprintf("UPDATE %s SET qty = qty + 1 WHERE id BETWEEN $1 AND $2", table), from, from+9999)
		return time.Since(start).Seconds() * 1000, err
	}
	for round := range 4 * opt.rounds {
		from := 1 + round%8*10_000
		before, err := update("plain", from)
		if err != nil {
			return err
		}
		with, err := update("item", from)
		if err != nil {
			return err
		}
		after, err := update("plain", from)
		if err != nil {
			return err
		}
		plain, ratios = append(plain, before), append(ratios, 2*with/(before+after))
		if round%8 == 7 {
			if _, err := l.db.Exec(ctx, "VACUUM item, plain"); err != nil {
				return err
			}
		}
	}
	fmt.Printf("\n### UPDATE of 10,000 rows in one statement\n\nno trigger %.1f ms; with triggers %.2f × the time (median of %d)\n",
		median(plain), median(ratios), len(ratios))
	return nil
}

// writeScript writes the single-row UPDATE for pgbench.
func writeScript(path, table string) error {
	return os.WriteFile(path, fmt.Appendf(nil, "\\set id random(1, 90000)\nUPDATE %s SET qty = qty + 1 WHERE id = :id;\n", table), 0o600)
}

// tpsOf finds the result in what pgbench printed.
func tpsOf(out string) (float64, error) {
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(line, "tps = "); ok {
			return strconv.ParseFloat(strings.Fields(v)[0], 64)
		}
	}
	return 0, fmt.Errorf("pgbench printed no tps:\n%s", out)
}
