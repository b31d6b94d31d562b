package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// waitTimeout is how long the replicas of Redis have to take over a bump.
const waitTimeout = time.Second

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
	if _, ok := rdb.(*redis.ClusterClient); ok {
		return nil, errors.New("agent: replicas of a Redis Cluster cannot be waited for (leave out redis.wait_replicas)")
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

// wait returns once the replicas have everything that was written so far. WAIT
// is about the writes of its own connection, and the bumps went over others; so
// it follows a write of its own, behind the bumps in the stream to the replicas.
func (r *replicated) wait(ctx context.Context) error {
	pipe := r.rdb.Pipeline()
	pipe.Set(ctx, r.key, 1, time.Minute)
	reached := pipe.Do(ctx, "wait", r.replicas, waitTimeout.Milliseconds())
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("wait for replicas: %w", err)
	}
	if n, err := reached.Int(); err != nil || n < r.replicas {
		return fmt.Errorf("the bumps reached %d replicas within %s, and redis.wait_replicas is %d", n, waitTimeout, r.replicas)
	}
	return nil
}
