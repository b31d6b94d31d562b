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

// writes compares single-row updates of a table with triggers, the agent
// running, with one that has none and with one that notifies for every row.
func writes(ctx context.Context, l *lab, opt options) (err error) {
	pgbench := filepath.Join(l.pg.BinDir(), "pgbench")
	if _, err := os.Stat(pgbench); err != nil {
		if pgbench, err = exec.LookPath("pgbench"); err != nil {
			return err
		}
	}
	a, err := l.startAgent(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	tps := func(table string, clients int, sync string) (float64, error) {
		script := l.path(table + ".sql")
		if err := writeScript(script, table); err != nil {
			return 0, err
		}
		cmd := exec.CommandContext(ctx, pgbench, "-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)),
			"-T", strconv.Itoa(opt.seconds), "-f", script, l.url)
		cmd.Env = append(os.Environ(), "PGOPTIONS=-c synchronous_commit="+sync)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
		}
		return tpsOf(string(out))
	}
	fmt.Printf("\n### Single-row UPDATE, ratio of transactions per second (median of %d rounds of %d s)\n\n", opt.rounds, opt.seconds)
	fmt.Println("| clients | synchronous_commit | no trigger, tps | icache ÷ no trigger | NOTIFY per row ÷ no trigger | icache ÷ NOTIFY |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, c := range []struct {
		clients int
		sync    string
	}{{1, "on"}, {8, "on"}, {64, "on"}, {8, "off"}} {
		var base, ours, naive, overNaive []float64
		for range opt.rounds {
			before, err := tps("plain", c.clients, c.sync)
			if err != nil {
				return err
			}
			with, err := tps("item", c.clients, c.sync)
			if err != nil {
				return err
			}
			notify, err := tps("naive", c.clients, c.sync)
			if err != nil {
				return err
			}
			after, err := tps("plain", c.clients, c.sync)
			if err != nil {
				return err
			}
			mean := (before + after) / 2
			base, ours, naive = append(base, mean), append(ours, with/mean), append(naive, notify/mean)
			overNaive = append(overNaive, with/notify)
		}
		fmt.Printf("| %d | %s | %.0f | %.2f | %.2f | %.1f |\n", c.clients, c.sync, median(base), median(ours), median(naive), median(overNaive))
	}
	return nil
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
