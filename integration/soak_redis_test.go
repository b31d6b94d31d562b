package integration

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// group is a Redis of several servers.
type group struct {
	nodes     []*localserver.Redis
	sentinels []*localserver.Redis
	strict    bool // nothing that is acknowledged may be forgotten
	turn      int
}

// withSentinel has a master, a replica and three Sentinels. If the agent waits
// for the replica, an acknowledgement counts when both servers show it, and has
// to survive.
func withSentinel(strict bool) func(g *ground) string {
	return func(g *ground) string {
		t := g.t
		master := servertest.OwnRedis(t)
		replica := servertest.OwnRedisWith(t, localserver.RedisConfig{ReplicaOf: master})
		awaitReplica(t, replica)
		g.group = &group{nodes: []*localserver.Redis{master, replica}, strict: strict}
		host, port, err := net.SplitHostPort(master.Addr())
		require.NoError(t, err)
		var addrs []string
		for range 3 {
			s := servertest.OwnRedisWith(t, localserver.RedisConfig{Sentinel: true, Settings: []string{
				"sentinel monitor main " + host + " " + port + " 2",
				"sentinel down-after-milliseconds main 500",
				"sentinel failover-timeout main 2000",
			}})
			g.group.sentinels = append(g.group.sentinels, s)
			addrs = append(addrs, s.Addr())
		}
		for _, s := range g.group.sentinels {
			require.Eventually(t, func() bool {
				c := redis.NewSentinelClient(&redis.Options{Addr: s.Addr()})
				defer c.Close()
				m, err := c.Master(t.Context(), "main").Result()
				return err == nil && m["num-slaves"] == "1" && m["num-other-sentinels"] == "2"
			}, time.Minute, 50*time.Millisecond, "the Sentinels do not find each other")
		}
		if strict {
			for _, n := range g.group.nodes {
				o, err := redis.ParseURL(n.URL())
				require.NoError(t, err)
				c := redis.NewClient(o)
				t.Cleanup(func() { require.NoError(t, c.Close()) })
				g.also = append(g.also, c)
			}
		}
		return "redis-sentinel://" + strings.Join(addrs, ",") + "/0?master=main"
	}
}

// sentinelFailOver kills the master, waits for another, and starts the old one
// again, of which the Sentinels make a replica.
func (g *ground) sentinelFailOver() {
	t := g.t
	master := g.group.node(masterBySentinel(t, g.group.sentinels[0]))
	require.NoError(t, master.Kill())
	if !g.group.strict {
		g.check.Forget()
	}
	for _, s := range g.group.sentinels {
		require.Eventually(t, func() bool {
			now := masterBySentinel(t, s)
			return now != "" && now != master.Addr()
		}, time.Minute, 20*time.Millisecond, "the Sentinels promote nobody")
	}
	// A master that is back, empty, before everybody knows of the new one is a
	// second master for a while: Redis' documentation has people prevent that.
	time.Sleep(time.Second)
	require.NoError(t, master.Start(context.WithoutCancel(t.Context())))
	g.mended()
	awaitReplica(t, master)
}

func masterBySentinel(t *testing.T, s *localserver.Redis) string {
	c := redis.NewSentinelClient(&redis.Options{Addr: s.Addr()})
	defer c.Close()
	addr, err := c.GetMasterAddrByName(t.Context(), "main").Result()
	if err != nil || len(addr) != 2 {
		return ""
	}
	return net.JoinHostPort(addr[0], addr[1])
}

func (c *group) node(addr string) *localserver.Redis {
	for _, n := range c.nodes {
		if n.Addr() == addr {
			return n
		}
	}
	return nil
}

// withCluster has three masters with a replica each.
func withCluster(g *ground) string {
	t, ctx := g.t, g.t.Context()
	const masters = 3
	g.group = &group{}
	var addrs []string
	for range 2 * masters {
		n := servertest.OwnRedis(t, "cluster-enabled yes", "cluster-node-timeout 1000", "cluster-port 0", "repl-diskless-sync-delay 0")
		g.group.nodes = append(g.group.nodes, n)
		addrs = append(addrs, n.Addr())
	}
	nodes := g.group.nodes
	ids := make([]string, len(nodes))
	host, port, err := net.SplitHostPort(nodes[0].Addr())
	require.NoError(t, err)
	for i, n := range nodes {
		require.NoError(t, direct(n, func(c *redis.Client) (err error) {
			if ids[i], err = c.ClusterMyID(ctx).Result(); err != nil {
				return err
			}
			if i < masters {
				err = c.ClusterAddSlotsRange(ctx, i*16384/masters, (i+1)*16384/masters-1).Err()
			}
			if err == nil && i > 0 {
				err = c.ClusterMeet(ctx, host, port).Err()
			}
			return err
		}))
	}
	eventually := func(n *localserver.Redis, what string, f func(c *redis.Client) bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			ok := false
			_ = direct(n, func(c *redis.Client) error { ok = f(c); return nil })
			return ok
		}, time.Minute, 50*time.Millisecond, what)
	}
	for i, n := range nodes[masters:] {
		eventually(n, "a replica does not find its master", func(c *redis.Client) bool { return c.ClusterReplicate(ctx, ids[i]).Err() == nil })
	}
	for _, n := range nodes {
		eventually(n, "the Cluster does not come up", func(c *redis.Client) bool {
			info, err := c.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:6")
		})
	}
	for _, n := range nodes[masters:] {
		awaitReplica(t, n)
	}
	return "redis-cluster://" + strings.Join(addrs, ",")
}

// clusterFailOver kills a master, waits until its replica has taken over, and
// starts the old one again, which becomes the replica.
func (g *ground) clusterFailOver() {
	t := g.t
	nodes := g.group.nodes
	var master, replica *localserver.Redis
	pair := g.group.turn % 3
	g.group.turn++
	for _, n := range []*localserver.Redis{nodes[pair], nodes[pair+3]} {
		if g.isMaster(n) {
			master = n
		} else {
			replica = n
		}
	}
	require.NotNil(t, master)
	require.NotNil(t, replica)
	require.NoError(t, master.Kill())
	g.check.Forget()
	require.Eventually(t, func() bool { return g.isMaster(replica) }, time.Minute, 20*time.Millisecond, "the replica does not take over")
	require.NoError(t, master.Start(context.WithoutCancel(t.Context())))
	g.mended()
	awaitReplica(t, master)
}

func (g *ground) isMaster(n *localserver.Redis) (yes bool) {
	_ = direct(n, func(c *redis.Client) error {
		info, err := c.Info(g.t.Context(), "replication").Result()
		yes = err == nil && strings.Contains(info, "role:master")
		return err
	})
	return yes
}
