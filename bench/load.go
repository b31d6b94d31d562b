package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// load measures what the agent takes of the processor while others write at a
// steady rate: its own process, its session in Postgres, and Redis.
func load(ctx context.Context, l *lab, opt options) (err error) {
	a, err := l.startAgent(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	var backend int
	if err := l.db.QueryRow(ctx, `SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS k USING (pid)
 WHERE a.application_name = 'icache-agent' AND k.locktype = 'advisory' AND k.granted LIMIT 1`).Scan(&backend); err != nil {
		return err
	}
	used := func() (u [3]time.Duration, err error) {
		if u[0], _, err = a.usage(); err != nil {
			return u, err
		}
		if u[1], err = processorTime(backend); err != nil {
			return u, err
		}
		u[2], err = l.redisTime(ctx)
		return u, err
	}
	fmt.Printf("\n### Processor time while others write, %% of a core (%d s each)\n\n", opt.seconds)
	fmt.Println("| commits/s wanted | clients | synchronous_commit | commits/s | agent | its session in Postgres | Redis | µs per commit, all three |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, c := range []struct {
		rate, clients int
		sync          string
	}{{1000, 8, "on"}, {5000, 8, "off"}, {10000, 8, "off"}} {
		script := l.path("load.sql")
		if err := writeScript(script, "item"); err != nil {
			return err
		}
		before, err := used()
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, filepath.Join(l.pg.BinDir(), "pgbench"), "-n", "-M", "prepared", "-c", fmt.Sprint(c.clients), "-j", "2",
			"-R", fmt.Sprint(c.rate), "-T", fmt.Sprint(opt.seconds), "-f", script, l.url)
		cmd.Env = append(cmd.Environ(), "PGOPTIONS=-c synchronous_commit="+c.sync)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("pgbench: %w\n%s", err, out)
		}
		tps, err := tpsOf(string(out))
		if err != nil {
			return err
		}
		after, err := used()
		if err != nil {
			return err
		}
		var percent [3]float64
		all := 0.0
		for i := range percent {
			spent := (after[i] - before[i]).Seconds()
			percent[i] = 100 * spent / float64(opt.seconds)
			all += 1e6 * spent / (tps * float64(opt.seconds))
		}
		fmt.Printf("| %d | %d | %s | %.0f | %.1f | %.1f | %.1f | %.0f |\n", c.rate, c.clients, c.sync, tps, percent[0], percent[1], percent[2], all)
	}
	return nil
}

// redisTime returns the processor time that Redis has used.
func (l *lab) redisTime(ctx context.Context) (time.Duration, error) {
	info, err := l.rdb.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, err
	}
	var sum float64
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_user" && name != "used_cpu_sys" {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err != nil {
			return 0, fmt.Errorf("%s of redis: %w", name, err)
		}
		sum += v
	}
	return time.Duration(sum * float64(time.Second)), nil
}
