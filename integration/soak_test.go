package integration

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/internal/soak"
)

const soakRules = `  - table: icache_soak.counts
    tokens: ["count:{{{id}}}", "counted:{{{id}}}:{n}"]
`

// ground is what a fault is done to. The agents reach the servers through
// proxies, the writers and readers directly.
type ground struct {
	*stack
	t        *testing.T
	postgres *localserver.Postgres
	redis    *localserver.Redis
	toPG     *proxy
	toRedis  *proxy
	agents   []*agent
}

// fault is something that goes wrong, and is mended, under load.
type fault struct {
	name   string
	agents int // besides the one that leads
	do     func(g *ground)
}

var faults = []fault{
	{name: "none", do: func(*ground) { time.Sleep(time.Second) }},
	{name: "agent: kill -9, started again", do: func(g *ground) {
		g.agents[0].kill()
		time.Sleep(300 * time.Millisecond)
		g.agents[0] = launchAgent(g.t, g.config)
		time.Sleep(time.Second)
	}},
	{name: "agent: kill -9, another stands by", agents: 1, do: func(g *ground) {
		g.agents[0].kill()
		g.agents = append(g.agents[1:], launchAgent(g.t, g.config))
		time.Sleep(time.Second)
	}},
	{name: "agent: SIGSTOP for 3 s", do: func(g *ground) {
		p := g.agents[0].cmd.Process
		_ = p.Signal(syscall.SIGSTOP)
		time.Sleep(3 * time.Second)
		_ = p.Signal(syscall.SIGCONT)
		time.Sleep(500 * time.Millisecond)
	}},
	{name: "agent: its backend terminated", do: func(g *ground) {
		_, _ = g.db.Exec(g.t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'icache-agent'")
		time.Sleep(time.Second)
	}},
	{name: "postgres: stop -m immediate", do: func(g *ground) {
		_ = g.postgres.StopImmediate()
		require.NoError(g.t, g.postgres.Start(context.WithoutCancel(g.t.Context())))
		time.Sleep(2 * time.Second)
	}},
	{name: "postgres: black-holed TCP for 3 s", do: func(g *ground) {
		g.toPG.swallow()
		time.Sleep(3 * time.Second)
		g.toPG.clear()
		time.Sleep(time.Second)
	}},
	{name: "redis: kill -9, comes back empty", do: func(g *ground) {
		_ = g.redis.Kill()
		require.NoError(g.t, g.redis.Start(context.WithoutCancel(g.t.Context())))
		time.Sleep(2 * time.Second)
	}},
	{name: "redis: FLUSHALL", do: func(g *ground) {
		_ = g.rdb.FlushAll(g.t.Context()).Err()
		time.Sleep(200 * time.Millisecond)
	}},
	{name: "redis: SIGSTOP for 2 s", do: func(g *ground) {
		_ = g.redis.Pause()
		time.Sleep(2 * time.Second)
		_ = g.redis.Resume()
		time.Sleep(time.Second)
	}},
	{name: "redis: black-holed TCP for 3 s", do: func(g *ground) {
		g.toRedis.swallow()
		time.Sleep(3 * time.Second)
		g.toRedis.clear()
		time.Sleep(time.Second)
	}},
}

// soakSeconds is how long each fault is repeated: ICACHE_SOAK_SECONDS, a short time by default.
func soakSeconds(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("ICACHE_SOAK_SECONDS")
	if s == "" {
		return 3 * time.Second
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, "ICACHE_SOAK_SECONDS")
	return time.Duration(n) * time.Second
}

// TestSoak does every fault under load, again and again, and requires that no
// read breaks the promise and that nothing is lost. With -v it ends with a
// table for docs/reliability.md.
func TestSoak(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	reports := make(map[string]soak.Report)
	t.Run("faults", func(t *testing.T) {
		slots := make(chan struct{}, 2) // more at a time measure this machine and nothing else
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				r := soakOne(t, f)
				mu.Lock()
				defer mu.Unlock()
				reports[f.name] = r
			})
		}
	})
	var table strings.Builder
	fmt.Fprintln(&table, "\n| fault | commits | reads | hits | broken reads | lost | commit → bump p50 | max | longest stale read |")
	fmt.Fprintln(&table, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, f := range faults {
		r := reports[f.name]
		fmt.Fprintf(&table, "| %s | %d | %d | %.0f %% | %d | %d | %.1f ms | %.0f ms | %.0f ms |\n", f.name, r.Commits, r.Reads,
			100*float64(r.Hits)/float64(max(r.Reads, 1)), r.Violations, r.Lost, r.AckP50, r.AckMax, r.StaleMax)
	}
	t.Log(table.String())
}

func soakOne(t *testing.T, f fault) soak.Report {
	t.Helper()
	g := &ground{t: t, postgres: servertest.OwnPostgres(t), redis: servertest.OwnRedis(t)}
	g.stack = newStack(t, g.postgres.URL(), g.redis.URL(), soakRules)
	g.toPG, g.toRedis = newProxy(t, g.postgresURL), newProxy(t, g.redisURL)
	require.NoError(t, soak.Prepare(t.Context(), g.db))
	succeed(t, "migrate", "up", "-c", g.config)
	text, err := os.ReadFile(g.config)
	require.NoError(t, err)
	text = []byte(strings.NewReplacer(g.postgresURL, g.toPG.via(t, g.postgresURL), g.redisURL, g.toRedis.via(t, g.redisURL)).Replace(string(text)))
	require.NoError(t, os.WriteFile(g.config, text, 0o600))
	for range 1 + f.agents {
		g.agents = append(g.agents, startAgent(t, g.config))
	}
	check, err := soak.New(soak.Config{DB: g.db, Redis: g.rdb, Cache: g.cache, TokenKey: g.tokenKey, Rows: 20, Writers: 2, Readers: 4, Settle: 60 * time.Second})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan soak.Report, 1)
	go func() {
		r, err := check.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	time.Sleep(500 * time.Millisecond) // until the load is there
	for end := time.Now().Add(soakSeconds(t)); time.Now().Before(end); {
		f.do(g)
	}
	cancel()
	r := <-done
	t.Logf("%s\n%s", f.name, r)
	require.Zero(t, r.Violations, "reads that began after the acknowledgement yielded older data")
	require.Zero(t, r.Lost, "rows that never became fresh again")
	require.NotZero(t, r.Commits)
	require.NotZero(t, r.Hits)
	return r
}
