package icache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// startCluster starts a Redis Cluster of three masters.
func startCluster(t *testing.T) (nodes []*localserver.Redis) {
	t.Helper()
	const masters = 3
	ctx := t.Context()
	for range masters {
		nodes = append(nodes, servertest.OwnRedis(t, "cluster-enabled yes", "cluster-node-timeout 2000", "cluster-port 0"))
	}
	for i, node := range nodes {
		rdb := dial(t, node.URL())
		require.NoError(t, rdb.ClusterAddSlotsRange(ctx, i*16384/masters, (i+1)*16384/masters-1).Err())
		host, port, _ := strings.Cut(nodes[0].Addr(), ":")
		if i > 0 {
			require.NoError(t, rdb.ClusterMeet(ctx, host, port).Err())
		}
	}
	for _, node := range nodes {
		rdb := dial(t, node.URL())
		require.Eventually(t, func() bool {
			info, err := rdb.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		}, 30*time.Second, 20*time.Millisecond)
	}
	return nodes
}

func clusterClient(t *testing.T, nodes []*localserver.Redis) *redis.ClusterClient {
	t.Helper()
	o := &redis.ClusterOptions{ContextTimeoutEnabled: true}
	for _, n := range nodes {
		o.Addrs = append(o.Addrs, n.Addr())
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	return rdb
}

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	rdb := clusterClient(t, nodes)
	ctx := t.Context()

	t.Run("tokens", func(t *testing.T) {
		t.Parallel()
		c := cacheOn(t, rdb, WithTokenTTL(time.Hour), WithPrefix("tokens:"))
		tokens := make([]string, 3000)
		for i := range tokens {
			tokens[i] = fmt.Sprint("movie:", i)
		}
		require.NoError(t, c.IncrMany(ctx, tokens), "the scripts are not known to any server yet")
		before, err := c.Values(ctx, tokens...)
		require.NoError(t, err)
		require.Len(t, before, len(tokens))
		v, err := c.GetSum(ctx, tokens[:100]...)
		require.NoError(t, err)
		require.NoError(t, c.IncrMany(ctx, tokens))
		after, err := c.Values(ctx, tokens...)
		require.NoError(t, err)
		for token := range before {
			require.Greater(t, after[token], before[token], token)
		}
		v2, err := c.GetSum(ctx, tokens[:100]...)
		require.NoError(t, err)
		require.NotEqual(t, v, v2)
		n, err := c.IncrAll(ctx)
		require.NoError(t, err)
		require.Equal(t, len(tokens)+2, n, "with a group and the generation")
	})
	t.Run("one slot", func(t *testing.T) {
		t.Parallel()
		c := cacheOn(t, rdb, WithTokenKey("{icache}:{token}"))
		tokens := make([]string, 600)
		for i := range tokens {
			tokens[i] = fmt.Sprint("movie:", i)
		}
		require.Len(t, c.redis.chunks(c.tokenKeys(tokens)), 3)
		require.NoError(t, c.IncrMany(ctx, tokens))
		vals, err := c.Values(ctx, tokens...)
		require.NoError(t, err)
		require.Len(t, vals, len(tokens))
	})
	t.Run("fragments", func(t *testing.T) {
		t.Parallel()
		c := cacheOn(t, rdb, WithPrefix("f:"), WithGuard(), WithPayloadCache(1<<20))
		require.NoError(t, rdb.Set(ctx, c.guardKey(), 1, time.Hour).Err())
		for i := range 50 {
			fetchNested(ctx, t, c, fmt.Sprint("page", i), i)
		}
		reqs := make([]Request, 100)
		for i := range reqs {
			reqs[i] = Request{"many", []string{fmt.Sprint("many:", i)}}
		}
		for range 2 {
			got, err := FetchMany(ctx, c, reqs, func(_ context.Context, m []int) ([]int, error) { return m, nil })
			require.NoError(t, err)
			require.Equal(t, 99, got[99])
		}
		require.Equal(t, uint64(250), c.Stats().Misses)
		require.Zero(t, c.Stats().Errors)
		v, err := c.GetSum(ctx, "a")
		require.NoError(t, err)
		require.NoError(t, c.SetVersioned(ctx, "k", v, []byte("x")))
		_, err = c.GetVersioned(ctx, "k", v+1)
		require.ErrorIs(t, err, ErrMiss)
		_, err = c.GetVersioned(ctx, "k", v)
		require.ErrorIs(t, err, ErrMiss)
		require.NoError(t, c.Delete(ctx, "k", "l", "m"))
	})
	t.Run("auto pipeline", func(t *testing.T) {
		t.Parallel()
		c := cacheOn(t, rdb, WithPrefix("ap:"), WithAutoPipeline())
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() { fetchNested(ctx, t, c, fmt.Sprint("page", i), i) })
		}
		wg.Wait()
		require.Zero(t, c.Stats().Errors)
	})
	t.Run("tracking is refused", func(t *testing.T) {
		t.Parallel()
		_, err := New(rdb, WithTracking(time.Second))
		require.ErrorContains(t, err, "Cluster")
	})
	t.Run("a plain client is told", func(t *testing.T) {
		t.Parallel()
		c := cacheOn(t, dial(t, nodes[0].URL()))
		_, err := c.GetSum(ctx, "a", "b", "c")
		require.ErrorContains(t, err, "NewClusterClient")
	})
	t.Run("slots agree", func(t *testing.T) {
		t.Parallel()
		for range 200 {
			key := strconv.FormatUint(rand.Uint64(), 36) + "{" + strconv.Itoa(rand.N(100)) + "}x"
			want, err := rdb.ClusterKeySlot(ctx, key).Result()
			require.NoError(t, err)
			require.Equal(t, uint16(want), keySlot(key), key)
		}
	})
}

func fetchNested(ctx context.Context, t *testing.T, c *Cache, key string, i int) {
	t.Helper()
	for range 2 {
		got, err := Fetch(ctx, c, key, []string{"movies", fmt.Sprint("movie:", i)}, func(ctx context.Context) (int, error) {
			return Fetch(ctx, c, key+"inner", []string{fmt.Sprint("row:", i)}, constant(i))
		})
		if err != nil || got != i {
			t.Error(got, err)
		}
	}
	if err := c.Incr(ctx, fmt.Sprint("row:", i)); err != nil {
		t.Error(err)
	}
	got, err := Fetch(ctx, c, key, []string{"movies", fmt.Sprint("movie:", i)}, constant(-1))
	if err != nil || got != -1 {
		t.Error(got, err)
	}
}

// A slot that moves while it is used: redirects, and no stale result.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	rdb := clusterClient(t, nodes)
	ctx := t.Context()
	c := cacheOn(t, rdb)
	slot := int(keySlot(c.keys.key("a")))
	from := slot * 3 / 16384
	source, target := dial(t, nodes[from].URL()), dial(t, nodes[(from+1)%3].URL())
	id := func(rdb *redis.Client) string {
		s, err := rdb.ClusterMyID(ctx).Result()
		require.NoError(t, err)
		return s
	}
	sourceID, targetID := id(source), id(target)
	stop := make(chan struct{})
	done := make(chan struct{})
	var n atomic.Int64
	go func() {
		defer close(done)
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for c.Incr(ctx, "a") != nil {
				time.Sleep(time.Millisecond)
			}
			got, err := Fetch(ctx, c, "k", []string{"a"}, constant(i))
			if err != nil || got != i {
				t.Errorf("got %d, %v, want %d", got, err, i)
			}
			n.Store(i)
		}
	}()
	require.NoError(t, target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", sourceID).Err())
	require.NoError(t, source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", targetID).Err())
	host, port, _ := strings.Cut(target.Options().Addr, ":")
	for {
		keys, err := source.ClusterGetKeysInSlot(ctx, slot, 100).Result()
		require.NoError(t, err)
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			require.NoError(t, source.Migrate(ctx, host, port, k, 0, 5*time.Second).Err())
		}
	}
	for _, rdb := range []*redis.Client{target, source} {
		require.NoError(t, rdb.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", targetID).Err())
	}
	moved := n.Load()
	require.Eventually(t, func() bool { return n.Load() > moved+10 }, 30*time.Second, 10*time.Millisecond)
	close(stop)
	<-done
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	master := servertest.OwnRedis(t)
	replica := servertest.OwnRedisWith(t, localserver.RedisConfig{ReplicaOf: master})
	host, port, _ := strings.Cut(master.Addr(), ":")
	sentinel := servertest.OwnRedisWith(t, localserver.RedisConfig{Sentinel: true, Settings: []string{
		"sentinel monitor main " + host + " " + port + " 1",
		"sentinel down-after-milliseconds main 300",
		"sentinel failover-timeout main 3000",
	}})
	require.Eventually(t, func() bool {
		info, err := dial(t, replica.URL()).Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	}, 20*time.Second, 50*time.Millisecond)
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{sentinel.Addr()}})
	t.Cleanup(func() { _ = rdb.Close() })
	// Sentinel has to have found the replica.
	require.Eventually(t, func() bool {
		n, err := dialSentinel(t, sentinel).Replicas(ctx, "main").Result()
		return err == nil && len(n) == 1
	}, 30*time.Second, 100*time.Millisecond)

	c := cacheOn(t, rdb, WithTracking(300*time.Millisecond))
	fetchNested(ctx, t, c, "k", 1)
	requireFresh(t, c)
	require.NoError(t, master.Kill())
	require.Eventually(t, func() bool { return c.Incr(ctx, "row:2", "movies") == nil }, 60*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		got, err := Fetch(ctx, c, "k", []string{"movies", "movie:1"}, constant(-2))
		require.NoError(t, err, "a Fetch goes on during the failover")
		return got == -2 && c.Stats().Errors > 0
	}, 30*time.Second, 20*time.Millisecond)
	requireFresh(t, c)
	fetchNested(ctx, t, c, "k", 2)
}

func dialSentinel(t *testing.T, s *localserver.Redis) *redis.SentinelClient {
	t.Helper()
	c := redis.NewSentinelClient(&redis.Options{Addr: s.Addr()})
	t.Cleanup(func() { _ = c.Close() })
	return c
}
