package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisWatch notices that Redis may have forgotten what it acknowledged: the
// run id changes when a server restarts, the replication id when a replica is
// promoted, and a new address appears when Sentinel or the Cluster moved a
// shard. Each time it bumps again what was bumped within the replay window.
type redisWatch struct {
	rdb      redis.UniversalClient
	every    time.Duration
	replay   func(ctx context.Context, why string) error
	metrics  *metrics
	log      *slog.Logger
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
		w.check(ctx)
		pause := w.every + time.Duration(rand.Int64N(int64(w.every)/4+1))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (w *redisWatch) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*w.every+time.Second)
	defer cancel()
	identity, version, err := redisIdentity(ctx, w.rdb)
	if ctx.Err() != nil && err != nil && context.Cause(ctx) == context.Canceled {
		return
	}
	w.mu.Lock()
	before, was := w.identity, w.up
	w.mu.Unlock()
	if err == nil && before != "" && identity != before {
		err = w.replay(ctx, "redis restarted or failed over")
		if err != nil {
			identity = before // so that the next check tries again
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
		return
	}
	w.identity, w.version, w.lastErr = identity, version, ""
	if !was {
		w.log.InfoContext(ctx, "agent: redis is there", "version", version)
		w.up, w.since = true, time.Now()
	}
	w.metrics.redisUp.Set(1)
}

// redisIdentity returns a string that changes whenever a server that holds
// tokens restarted, was promoted or was replaced.
func redisIdentity(ctx context.Context, rdb redis.UniversalClient) (identity, version string, err error) {
	one := func(ctx context.Context, c redis.Cmdable) (string, string, error) {
		pipe := c.Pipeline()
		server, replication := pipe.Info(ctx, "server"), pipe.Info(ctx, "replication")
		if _, err := pipe.Exec(ctx); err != nil {
			// A server that answers, but not to INFO (by its ACL, or because it is
			// a stand-in), is there; only its restarts go unnoticed.
			if _, answered := errors.AsType[redis.Error](err); answered && c.Ping(ctx).Err() == nil {
				return "", "unknown", nil
			}
			return "", "", fmt.Errorf("ask redis for its run id: %w", err)
		}
		s, r := infoFields(server.Val()), infoFields(replication.Val())
		return s["run_id"] + "/" + r["master_replid"], s["redis_version"], nil
	}
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return one(ctx, rdb)
	}
	var mu sync.Mutex
	var parts []string
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		id, v, err := one(ctx, c)
		mu.Lock()
		defer mu.Unlock()
		parts, version = append(parts, id), v
		return err
	})
	sort.Strings(parts)
	return strings.Join(parts, " "), version, err
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
