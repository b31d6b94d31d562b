package integration

import (
	"context"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/internal/soak"
)

// ground is what faults are done to: servers, agents, and a check under way.
// Writers and readers, and the agents, reach the servers through proxies of
// their own, which lead to where the server is after a failover; only those of
// the agents are ever cut.
type ground struct {
	*stack
	t     *testing.T
	check *soak.Check

	postgres *localserver.Postgres // the primary
	standby  *localserver.Postgres // nil if there is none
	pgConfig localserver.PostgresConfig
	at       int // of the two addresses, the one of the primary
	pgProxy  [2]struct{ apps, agents *proxy }

	redis      *localserver.Redis // the master
	replica    *localserver.Redis // nil if there is none
	redisProxy struct{ apps, agents *proxy }
	group      *group          // a Redis of several servers instead
	also       []redis.Cmdable // servers that must show an acknowledgement too

	program string // the agent's, if not the usual one
	env     []string
	clock   string // what the agents' clock adds, in a file
	slow    string // the file that makes Postgres' disk slow
	agents  []*agent

	recoveries []time.Duration // from the end of each fault until new changes got through
}

// newGround starts the servers that a fault needs.
func newGround(t *testing.T, f fault) *ground {
	t.Helper()
	g := &ground{t: t}
	if f.standby {
		g.pgConfig.Settings = append(g.pgConfig.Settings, "wal_retrieve_retry_interval=100ms") // to follow again at once
	}
	if f.prepare != nil {
		f.prepare(g)
	}
	g.postgres = servertest.OwnPostgresWith(t, g.pgConfig)
	postgres := make([]string, 2) // as apps and as agents see it
	for i := range g.pgProxy {
		if i == 1 && !f.standby {
			break
		}
		p := &g.pgProxy[i]
		p.apps, p.agents = newProxy(t, g.postgres.URL()), newProxy(t, g.postgres.URL())
		postgres[0], postgres[1] = postgres[0]+","+p.apps.addr(), postgres[1]+","+p.agents.addr()
	}
	for i, hosts := range postgres {
		u, err := url.Parse(g.postgres.URL())
		require.NoError(t, err)
		u.Host = hosts[1:]
		u.RawQuery += "&target_session_attrs=read-write"
		postgres[i] = u.String()
	}
	caches := make([]string, 2)
	if f.servers != nil {
		caches[0] = f.servers(g)
		caches[1] = caches[0]
	} else {
		g.redis = servertest.OwnRedis(t, promptReplication)
		p := &g.redisProxy
		p.apps, p.agents = newProxy(t, g.redis.URL()), newProxy(t, g.redis.URL())
		caches[0], caches[1] = p.apps.via(t, g.redis.URL()), p.agents.via(t, g.redis.URL())
	}
	g.stack = newStack(t, postgres[0], caches[0], soakRules, f.options...)
	if f.guarded {
		g.cache = g.newCache(t, icache.WithGuard(), icache.WithPrefix("icache:"), icache.WithTokenKey(g.tokenKey)) // where the agent keeps the lease
	}
	require.NoError(t, soak.Prepare(t.Context(), g.db))
	succeed(t, "migrate", "up", "-c", g.config)
	text, err := os.ReadFile(g.config)
	require.NoError(t, err)
	text = []byte(strings.NewReplacer(postgres[0], postgres[1], caches[0], caches[1], "level: debug", "level: info").Replace(string(text)))
	require.NoError(t, os.WriteFile(g.config, text, 0o600))
	if f.standby {
		g.addStandby()
	}
	if f.replica {
		g.addReplica()
	}
	for range 1 + f.agents {
		g.launch().awaitReady(t)
	}
	return g
}

// start begins to check. The function returned ends the load, and returns the
// report once everything has come to rest.
func (g *ground) start(cfg soak.Config) (end func() soak.Report) {
	g.t.Helper()
	stop, wait := g.stoppable(cfg)
	return func() soak.Report { stop(); return wait() }
}

// stoppable is start with an end in two steps.
func (g *ground) stoppable(cfg soak.Config) (stop context.CancelFunc, end func() soak.Report) {
	g.t.Helper()
	cfg.DB, cfg.Redis, cfg.Also, cfg.Cache, cfg.TokenKey = g.db, g.rdb, g.also, g.cache, g.tokenKey
	var err error
	g.check, err = soak.New(cfg)
	require.NoError(g.t, err)
	ctx, cancel := context.WithCancel(g.t.Context())
	var r soak.Report
	var running sync.WaitGroup
	running.Go(func() {
		var err error
		if r, err = g.check.Run(ctx); err != nil {
			g.t.Error(err)
		}
	})
	wait := func() soak.Report { running.Wait(); return r }
	g.t.Cleanup(func() { cancel(); wait() })
	require.Eventually(g.t, func() bool { return g.check.Commits() > 0 }, readyTimeout, 10*time.Millisecond, "there is no load")
	return cancel, wait
}

// mended says that a fault is over, and waits until changes get through again.
func (g *ground) mended() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	took, err := g.check.Recovered(ctx)
	if err != nil {
		g.t.Error(err)
	}
	g.recoveries = append(g.recoveries, took)
}

// launch starts one more agent.
func (g *ground) launch() *agent {
	g.t.Helper()
	program := g.program
	if program == "" {
		var err error
		program, err = binary()
		require.NoError(g.t, err)
	}
	a := launchBinary(g.t, program, g.config, g.env...)
	g.agents = append(g.agents, a)
	return a
}

// leader takes the agent that leads, or else any, off the list.
func (g *ground) leader() *agent {
	at := rand.IntN(len(g.agents))
	for i, a := range g.agents {
		if a.http == "" {
			a.http = a.announced()
		}
		var status struct {
			Postgres struct {
				Leader bool `json:"leader"`
			} `json:"postgres"`
		}
		if a.http != "" && get(g.t.Context(), a.http+"/status", &status) == nil && status.Postgres.Leader {
			at = i
			break
		}
	}
	a := g.agents[at]
	g.agents = append(g.agents[:at:at], g.agents[at+1:]...)
	return a
}

// onPrimary runs SQL on the primary, not through a proxy.
func (g *ground) onPrimary(sql string, dst ...any) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, g.postgres.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if len(dst) > 0 {
		return conn.QueryRow(ctx, sql).Scan(dst...)
	}
	_, err = conn.Exec(ctx, sql)
	return err
}

// addStandby makes a synchronous standby: what a failover may lose of commits
// is nothing that this test is about.
func (g *ground) addStandby() {
	g.t.Helper()
	cfg := g.pgConfig
	cfg.StandbyOf = g.postgres
	g.standby = servertest.OwnPostgresWith(g.t, cfg)
	g.pgProxy[1-g.at].apps.lead(g.standby.Addr())
	g.pgProxy[1-g.at].agents.lead(g.standby.Addr())
	require.NoError(g.t, g.onPrimary("ALTER SYSTEM SET synchronous_standby_names = '*'"))
	require.NoError(g.t, g.onPrimary("SELECT pg_reload_conf()"))
	require.Eventually(g.t, func() bool {
		var synchronous bool
		err := g.onPrimary("SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'", &synchronous)
		return err == nil && synchronous
	}, readyTimeout, 20*time.Millisecond, "the standby does not follow")
}

// failOver kills the primary and promotes the standby.
func (g *ground) failOver() {
	g.t.Helper()
	old := g.postgres
	require.NoError(g.t, old.Kill())
	require.NoError(g.t, g.standby.Promote(context.WithoutCancel(g.t.Context())))
	g.postgres, g.standby, g.at = g.standby, nil, 1-g.at
	g.mended()
	require.NoError(g.t, old.Close())
	g.addStandby()
}

const promptReplication = "repl-diskless-sync-delay 0"

// addReplica makes a replica of the master.
func (g *ground) addReplica() {
	g.t.Helper()
	g.replica = servertest.OwnRedis(g.t, promptReplication)
	host, port, err := net.SplitHostPort(g.redis.Addr())
	require.NoError(g.t, err)
	// Not in its configuration: once promoted it is a master, after a restart too.
	require.NoError(g.t, direct(g.replica, func(c *redis.Client) error { return c.Do(g.t.Context(), "REPLICAOF", host, port).Err() }))
	awaitReplica(g.t, g.replica)
}

func awaitReplica(t *testing.T, r *localserver.Redis) {
	t.Helper()
	require.Eventually(t, func() bool {
		var info string
		err := direct(r, func(c *redis.Client) (err error) {
			info, err = c.Info(t.Context(), "replication").Result()
			return err
		})
		return err == nil && strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up")
	}, time.Minute, 20*time.Millisecond, "the replica does not follow")
}

// direct talks to one server, not through a proxy.
func direct(r *localserver.Redis, f func(c *redis.Client) error) error {
	o, err := redis.ParseURL(r.URL())
	if err != nil {
		return err
	}
	c := redis.NewClient(o)
	defer c.Close()
	return f(c)
}

// redisFailOver kills the master and promotes the replica, as a service does
// that moves an address.
func (g *ground) redisFailOver() {
	g.t.Helper()
	old := g.redis
	require.NoError(g.t, old.Kill())
	g.check.Forget()
	g.redis, g.replica = g.replica, nil
	require.NoError(g.t, g.onRedis("replicaof", "no", "one"))
	g.redisProxy.apps.lead(g.redis.Addr())
	g.redisProxy.agents.lead(g.redis.Addr())
	g.mended()
	require.NoError(g.t, old.Close())
	g.addReplica()
}

// restartRedis kills the master and starts it again, with the snapshot that it
// has, or empty.
func (g *ground) restartRedis(snapshot bool) {
	g.t.Helper()
	dump := g.dump()
	require.NoError(g.t, g.redis.Kill())
	if snapshot {
		g.check.Forget()
	} else {
		_ = os.Remove(dump) // there may be none
	}
	require.NoError(g.t, g.redis.Start(context.WithoutCancel(g.t.Context())))
	_ = os.Remove(dump)
}

// dump is where the master's snapshot is.
func (g *ground) dump() string {
	g.t.Helper()
	var dir map[string]string
	require.NoError(g.t, direct(g.redis, func(c *redis.Client) (err error) {
		dir, err = c.ConfigGet(g.t.Context(), "dir").Result()
		return err
	}))
	return filepath.Join(dir["dir"], "dump.rdb")
}

// onRedis runs a command on the master.
func (g *ground) onRedis(args ...any) error {
	return direct(g.redis, func(c *redis.Client) error { return c.Do(g.t.Context(), args...).Err() })
}
