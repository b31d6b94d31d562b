package agent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/listener"
)

// redisCluster is a Redis Cluster of three masters.
type redisCluster struct{ nodes []*localserver.Redis }

const clusterMasters = 3

func startCluster(t *testing.T) *redisCluster {
	t.Helper()
	c := &redisCluster{}
	for i := range clusterMasters {
		node := c.join(t)
		require.NoError(t, c.dial(t, node).ClusterAddSlotsRange(t.Context(), i*16384/clusterMasters, (i+1)*16384/clusterMasters-1).Err())
	}
	c.settled(t)
	return c
}

func (c *redisCluster) dial(t *testing.T, node *localserver.Redis) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(node.URL())
	require.NoError(t, err)
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// join adds a node without slots.
func (c *redisCluster) join(t *testing.T) *localserver.Redis {
	t.Helper()
	node := servertest.OwnRedis(t, "cluster-enabled yes", "cluster-node-timeout 5000", "cluster-port 0")
	c.nodes = append(c.nodes, node)
	if len(c.nodes) > 1 {
		host, port, _ := strings.Cut(c.nodes[0].Addr(), ":")
		require.NoError(t, c.dial(t, node).ClusterMeet(t.Context(), host, port).Err())
	}
	return node
}

// settled waits until every node knows every other.
func (c *redisCluster) settled(t *testing.T) {
	t.Helper()
	for _, node := range c.nodes {
		rdb := c.dial(t, node)
		require.Eventually(t, func() bool {
			info, err := rdb.ClusterInfo(t.Context()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", len(c.nodes)))
		}, time.Minute, 20*time.Millisecond)
	}
}

// In a Cluster a bump counts when the replicas of every master have it.
func TestWaitForReplicasOfACluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	o := &redis.ClusterOptions{ContextTimeoutEnabled: true}
	for _, node := range c.nodes {
		o.Addrs = append(o.Addrs, node.Addr())
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	b := setup(t, options{})
	require.NoError(t, b.stop())

	a, err := agent.New(agent.Config{
		Postgres: listener.Config{URL: b.url}, Redis: rdb, CacheOptions: b.cacheOptions, Rules: rules(), WaitReplicas: 1,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	b.exec(t, "UPDATE movies SET title = 'Ronin' WHERE id = 1")
	require.Eventually(t, func() bool { return strings.Contains(a.Status().Postgres.LastError, "reached 0 replicas") }, time.Minute, 10*time.Millisecond)

	for i := range clusterMasters {
		require.Zero(t, a.Status().Postgres.Changes, "%d of the masters have a replica", i)
		master, replica := c.dial(t, c.nodes[i]), c.join(t)
		c.settled(t)
		id, err := master.Do(t.Context(), "CLUSTER", "MYID").Text()
		require.NoError(t, err)
		require.NoError(t, c.dial(t, replica).ClusterReplicate(t.Context(), id).Err())
	}
	require.Eventually(t, func() bool { return a.Status().Postgres.Changes == 1 }, time.Minute, 10*time.Millisecond)
	cache, err := icache.New(rdb, b.cacheOptions...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cache.Close()) })
	v, err := cache.Values(t.Context(), "movie:1")
	require.NoError(t, err)
	require.Positive(t, v["movie:1"])
}
