package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisWatch notices that Redis may have forgotten what it acknowledged: the
// run id changes when a server restarts, the replication id when a replica is
// promoted, and a new address appears when Sentinel or the Cluster moved a
// shard. Each time it bumps again what was bumped within the replay window, or
// everything if the server may have gone back further than that.
type redisWatch struct {
	rdb     redis.UniversalClient
	every   time.Duration
	replay  func(ctx context.Context, why string, recent bool) error
	changed func() // the identity is another
	metrics *metrics
	log     *slog.Logger
	one     sync.Mutex // one check at a time
	nodes   []redisNode

	// A failover may leave two masters for a while: Sentinel takes ten seconds to
	// make a replica of an old one that is back, or that was not down at all. A
	// connection that was opened as the address moved may lead to it, whatever
	// this watch is connected to, and what goes over it is lost when it becomes a
	// replica. So it is repeated once more when that time is over.
	repeat func(ctx context.Context) error
	after  time.Duration // how much later
	due    time.Time     // zero: nothing is to be repeated

	mu       sync.Mutex
	identity string // of the servers as last seen, "" before the first answer
	up       bool
	since    time.Time
	lastErr  string
	version  string
}

// RedisStatus is what /status says about Redis.
type RedisStatus struct {
	Up      bool      `json:"up"`
	Since   time.Time `json:"since"`
	Version string    `json:"version,omitempty"`
	Error   string    `json:"error,omitempty"`
}

func (w *redisWatch) status() RedisStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return RedisStatus{Up: w.up, Since: w.since, Version: w.version, Error: w.lastErr}
}

// run checks until ctx ends.
func (w *redisWatch) run(ctx context.Context) {
	for {
		_ = w.check(ctx) // is in the status
		pause := w.every + time.Duration(rand.Int64N(int64(w.every)/4+1))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// known returns the identity of the servers, after whose last change what may
// have been lost was bumped again. It asks if it was never told, and returns ""
// if there is no answer.
func (w *redisWatch) known(ctx context.Context) string {
	w.mu.Lock()
	identity := w.identity
	w.mu.Unlock()
	if identity == "" && w.check(ctx) == nil {
		w.mu.Lock()
		identity = w.identity
		w.mu.Unlock()
	}
	return identity
}

// check returns nil if Redis answers and has not lost what it acknowledged, or
// that has been bumped again.
func (w *redisWatch) check(ctx context.Context) error {
	w.one.Lock()
	defer w.one.Unlock()
	// Bumping again may take longer than asking: there may be many keys to scan.
	asking, cancel := context.WithTimeout(ctx, 2*w.every+time.Second)
	nodes, err := redisNodes(asking, w.rdb)
	cancel()
	if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return err
	}
	identity, version := identityOf(nodes)
	w.mu.Lock()
	before, was := w.identity, w.up
	w.mu.Unlock()
	if err == nil && before != "" && identity != before {
		err = w.replay(ctx, "redis restarted or failed over", losesLittle(w.nodes, nodes))
		if err != nil {
			identity = before // so that the next check tries again
		}
		w.due = time.Now().Add(w.after)
	} else if err == nil && !w.due.IsZero() && !time.Now().Before(w.due) {
		if err = w.repeat(ctx); err == nil {
			w.due = time.Time{}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.lastErr = err.Error()
		if was || w.since.IsZero() {
			w.up, w.since = false, time.Now()
			w.log.WarnContext(ctx, "agent: redis does not answer; changes wait in the outbox", "error", err)
		}
		w.metrics.redisUp.Set(0)
		return err
	}
	if identity != before {
		w.nodes = nodes
		if w.changed != nil {
			w.changed()
		}
	}
	w.identity, w.version, w.lastErr = identity, version, ""
	if !was {
		w.log.InfoContext(ctx, "agent: redis is there", "version", version)
		w.up, w.since = true, time.Now()
	}
	w.metrics.redisUp.Set(1)
	return nil
}

// redisNode is a server that holds tokens, as it was last seen.
type redisNode struct {
	run         string // another for each start of the server
	replication string // of the history of its data
	forked      string // the history that its own began with, if it was promoted
	appends     bool   // it has an append-only file
	version     string
}

// identityOf returns a string that changes whenever a server that holds tokens
// restarted, was promoted or was replaced; "" if that cannot be known.
func identityOf(nodes []redisNode) (identity, version string) {
	var parts []string
	for _, n := range nodes {
		if n.run != "" {
			parts = append(parts, n.run+"/"+n.replication)
		}
		version = n.version
	}
	sort.Strings(parts)
	return strings.Join(parts, " "), version
}

// losesLittle reports whether what the servers may have lost is no more than
// what was on its way to a replica or to the append-only file. A server that
// was loaded from a snapshot may have gone back by hours.
func losesLittle(before, now []redisNode) bool {
	for _, n := range now {
		if !n.appends && !slices.ContainsFunc(before, func(b redisNode) bool {
			return b.run == n.run || b.replication != "" && b.replication == n.forked || b.replication == n.replication
		}) {
			return false
		}
	}
	return true
}

// redisNodes asks the servers that hold tokens.
func redisNodes(ctx context.Context, rdb redis.UniversalClient) (nodes []redisNode, err error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		n, err := askRedis(ctx, rdb)
		return []redisNode{n}, err
	}
	var mu sync.Mutex
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		n, err := askRedis(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, n)
		return err
	})
	return nodes, err
}

func askRedis(ctx context.Context, c redis.Cmdable) (redisNode, error) {
	pipe := c.Pipeline()
	var infos [3]*redis.StringCmd
	for i, section := range []string{"server", "replication", "persistence"} {
		infos[i] = pipe.Info(ctx, section)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		// A server that answers, but not to INFO (by its ACL, or because it is
		// a stand-in), is there; only its restarts go unnoticed.
		if _, answered := errors.AsType[redis.Error](err); answered && c.Ping(ctx).Err() == nil {
			return redisNode{version: "unknown"}, nil
		}
		return redisNode{}, fmt.Errorf("ask redis for its run id: %w", err)
	}
	s, r, p := infoFields(infos[0].Val()), infoFields(infos[1].Val()), infoFields(infos[2].Val())
	return redisNode{
		run: s["run_id"], version: s["redis_version"], replication: r["master_replid"], forked: r["master_replid2"],
		appends: p["aof_enabled"] == "1",
	}, nil
}

func infoFields(info string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(info) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[k] = v
		}
	}
	return fields
}
