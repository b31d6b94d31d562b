package integration

import (
	"context"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is something that goes wrong, and is mended, under load.
type fault struct {
	name string

	// What it is done to.
	agents  int                    // besides the one that leads
	standby bool                   // Postgres has a synchronous standby
	replica bool                   // Redis has a replica
	guarded bool                   // readers use the guard
	options []string               // of the config's section redis
	prepare func(g *ground)        // before any server is started
	servers func(g *ground) string // starts another Redis than the usual one, and returns its URL

	do   func(g *ground)
	long bool // the long run does it as well
}

var faults = []fault{
	{name: "none", do: func(g *ground) {
		time.Sleep(time.Second)
		g.mended()
	}},

	{name: "agent: kill -9, started again", long: true, do: func(g *ground) {
		g.leader().kill()
		time.Sleep(300 * time.Millisecond)
		g.launch()
		g.mended()
	}},
	{name: "agent: kill -9, another stands by", agents: 1, do: func(g *ground) {
		g.leader().kill()
		g.mended()
		g.launch().awaitReady(g.t)
	}},
	{name: "agent: SIGSTOP for 3 s", long: true, do: func(g *ground) {
		a := g.leader()
		require.NoError(g.t, a.cmd.Process.Signal(syscall.SIGSTOP))
		time.Sleep(3 * time.Second)
		require.NoError(g.t, a.cmd.Process.Signal(syscall.SIGCONT))
		g.agents = append(g.agents, a)
		g.mended()
	}},
	{name: "agent: SIGTERM, another version takes over", long: true, do: func(g *ground) {
		other := os.Getenv("ICACHE_SOAK_OTHER_AGENT") // a program of another version; by default it is the same one
		usual := g.program
		if other != "" && rand.IntN(2) == 0 {
			g.program = other
		}
		g.launch().awaitReady(g.t)
		g.program = usual
		g.leader().terminate(g.t)
		g.mended()
	}},
	{name: "agent: its backend terminated", long: true, do: func(g *ground) {
		if g.onPrimary("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'icache-agent'") == nil {
			g.mended()
		}
	}},
	{name: "agent: its clock steps by hours", prepare: withClock, do: func(g *ground) {
		for _, hours := range []int{1, -3, 0} {
			g.stepClock(time.Duration(hours) * time.Hour)
			time.Sleep(300 * time.Millisecond)
		}
		g.mended()
	}},

	{name: "postgres: stop -m immediate", long: true, do: func(g *ground) {
		require.NoError(g.t, g.postgres.StopImmediate())
		require.NoError(g.t, g.postgres.Start(context.WithoutCancel(g.t.Context())))
		g.mended()
	}},
	{name: "postgres: failover to a streaming standby", standby: true, agents: 1, long: true, do: (*ground).failOver},
	{name: "postgres: black-holed TCP for 3 s", long: true, do: func(g *ground) {
		g.eachPostgresProxy((*proxy).swallow)
		time.Sleep(3 * time.Second)
		g.eachPostgresProxy((*proxy).clear)
		g.mended()
	}},
	{name: "postgres: the outbox truncated by somebody", long: true, do: func(g *ground) {
		time.Sleep(300 * time.Millisecond)
		if g.onPrimary("TRUNCATE icache.outbox_0, icache.outbox_1") == nil {
			g.mended()
		}
	}},
	{name: "postgres: slow disk", prepare: withSlowDisk, do: func(g *ground) {
		g.slowDisk(true)
		time.Sleep(2 * time.Second)
		g.slowDisk(false)
		g.mended()
	}},

	{name: "redis: kill -9, comes back empty", long: true, do: func(g *ground) {
		g.restartRedis(false)
		g.mended()
	}},
	{name: "redis: restarted from an old snapshot", long: true, do: restartFromSnapshot},
	{name: "redis: restarted from an old snapshot, readers with the guard", guarded: true, options: []string{"lease: 1s"}, do: restartFromSnapshot},
	{name: "redis: FLUSHALL", long: true, do: func(g *ground) {
		require.NoError(g.t, g.onRedis("flushall"))
		g.mended()
		time.Sleep(200 * time.Millisecond)
	}},
	{name: "redis: SIGSTOP for 2 s", long: true, do: func(g *ground) {
		require.NoError(g.t, g.redis.Pause())
		time.Sleep(2 * time.Second)
		require.NoError(g.t, g.redis.Resume())
		g.mended()
	}},
	{name: "redis: black-holed TCP for 3 s", long: true, do: func(g *ground) {
		g.redisProxy.agents.swallow()
		time.Sleep(3 * time.Second)
		g.redisProxy.agents.clear()
		g.mended()
	}},
	{name: "redis: read-only for 2 s", long: true, do: func(g *ground) {
		require.NoError(g.t, g.onRedis("config", "set", "min-replicas-to-write", 9)) // NOREPLICAS
		time.Sleep(time.Second)
		require.NoError(g.t, g.onRedis("replicaof", "127.0.0.1", 1)) // READONLY
		require.NoError(g.t, g.onRedis("config", "set", "min-replicas-to-write", 0))
		time.Sleep(time.Second)
		require.NoError(g.t, g.onRedis("replicaof", "no", "one"))
		g.mended()
	}},
	{name: "redis: out of memory for 2 s", long: true, do: func(g *ground) {
		require.NoError(g.t, g.onRedis("config", "set", "maxmemory", 1))
		time.Sleep(2 * time.Second)
		require.NoError(g.t, g.onRedis("config", "set", "maxmemory", 0))
		g.mended()
	}},
	{name: "redis: the replica promoted, the address moved", replica: true, long: true, do: (*ground).redisFailOver},
	{name: "redis: Sentinel failover, wait_replicas: 1", options: []string{"wait_replicas: 1"}, servers: withSentinel(true), do: (*ground).sentinelFailOver},
	{name: "redis: Sentinel failover", servers: withSentinel(false), do: (*ground).sentinelFailOver},
	{name: "redis: Cluster failover", servers: withCluster, do: (*ground).clusterFailOver},
}

func restartFromSnapshot(g *ground) {
	require.NoError(g.t, g.onRedis("save"))
	time.Sleep(1500 * time.Millisecond)
	g.restartRedis(true)
	g.mended()
}

func (g *ground) eachPostgresProxy(f func(*proxy)) {
	for _, p := range g.pgProxy {
		if p.agents != nil {
			f(p.agents)
		}
	}
}
