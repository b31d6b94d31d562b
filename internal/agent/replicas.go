package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// waitTimeout is how long the replicas of Redis have to take over a bump.
const waitTimeout = time.Second

// waitAttempts is after how many keys a master counts as one without slots.
const waitAttempts = 100_000

// replicated is a bumper whose bumps count only when so many replicas have them.
type replicated struct {
	bumper
	rdb      redis.UniversalClient
	key      string
	replicas int
}

// waitFor returns the bumper itself if no replica has to be waited for.
func waitFor(replicas int, b bumper, leaseKey string, rdb redis.UniversalClient) (bumper, error) {
	if replicas == 0 {
		return b, nil
	}
	if replicas < 0 {
		return nil, fmt.Errorf("agent: Config.WaitReplicas is %d, want 0 or more", replicas)
	}
	return &replicated{bumper: b, rdb: rdb, key: leaseKey + ":wait", replicas: replicas}, nil
}

func (r *replicated) IncrMany(ctx context.Context, tokens []string) error {
	if err := r.bumper.IncrMany(ctx, tokens); err != nil {
		return err
	}
	return r.wait(ctx)
}

func (r *replicated) IncrAll(ctx context.Context) (int, error) {
	n, err := r.bumper.IncrAll(ctx)
	if err != nil {
		return n, err
	}
	return n, r.wait(ctx)
}

// wait returns once the replicas have everything that was written so far, those
// of each master in a Cluster.
func (r *replicated) wait(ctx context.Context) error {
	cluster, ok := r.rdb.(*redis.ClusterClient)
	if !ok {
		return r.waitAt(ctx, r.rdb, r.key)
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		key, err := r.keyAt(ctx, cluster, master)
		if err != nil {
			return err
		}
		if err := r.waitAt(ctx, master, key); err != nil {
			return fmt.Errorf("master %s: %w", master.Options().Addr, err)
		}
		return nil
	})
}

// keyAt returns a key of which a master has the slot. Of n masters with as many
// slots it takes n attempts.
func (r *replicated) keyAt(ctx context.Context, cluster *redis.ClusterClient, master *redis.Client) (string, error) {
	for i := range waitAttempts {
		key := fmt.Sprintf("%s:{%d}", r.key, i)
		if at, err := cluster.MasterForKey(ctx, key); err != nil {
			return "", fmt.Errorf("find the master of a key: %w", err)
		} else if at == master {
			return key, nil
		}
	}
	return "", fmt.Errorf("no key found that is at master %s (has the token key or the prefix a hash tag of its own?)", master.Options().Addr)
}

// waitAt waits for the replicas of one server. WAIT is about the writes of its
// own connection, and the bumps went over others; so it follows a write of its
// own, behind the bumps in the stream to the replicas.
func (r *replicated) waitAt(ctx context.Context, rdb redis.Cmdable, key string) error {
	pipe := rdb.Pipeline()
	pipe.Set(ctx, key, 1, time.Minute)
	reached := pipe.Do(ctx, "wait", r.replicas, waitTimeout.Milliseconds())
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("wait for replicas: %w", err)
	}
	if n, err := reached.Int(); err != nil || n < r.replicas {
		return fmt.Errorf("the bumps reached %d replicas within %s, and redis.wait_replicas is %d", n, waitTimeout, r.replicas)
	}
	return nil
}
