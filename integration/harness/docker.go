package harness

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/modules/redis"
)

const (
	healthTimeout = 10 * time.Second
	imageTimeout  = 3 * time.Minute // an image may have to be pulled
	endTimeout    = 30 * time.Second
	sharedMemory  = 512 << 20
)

// container ends a container.
type container struct{ testcontainers.Container }

func (c container) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	return c.Terminate(ctx)
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

// docker says once per process whether there is an engine to use.
var docker = sync.OnceValue(func() (err error) {
	// testcontainers panics where it finds no engine at all.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("no Docker engine: %v", r)
		}
	}()
	log.SetDefault(quiet{}) // what goes wrong is in the errors
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return fmt.Errorf("no Docker engine: %w", err)
	}
	defer provider.Close()
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	if err := provider.Health(ctx); err != nil {
		return fmt.Errorf("no healthy Docker engine: %w", err)
	}
	return nil
})

func dockerPostgres(ctx context.Context) (Server, error) {
	if err := docker(); err != nil {
		return Server{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	image := cmp.Or(os.Getenv(PostgresImageEnv), DefaultPostgresImage)
	c, err := postgres.Run(ctx, image,
		postgres.WithUsername("postgres"),
		postgres.WithPassword(rand.Text()),
		// The module itself turns fsync off; the rest as in package localserver.
		// JIT compilation needs files that small images leave out.
		testcontainers.WithCmdArgs("-c", "jit=off", "-c", "full_page_writes=off", "-c", "max_connections=300", "-c", "max_wal_size=2GB", "-c", "timezone=UTC"),
		// Docker's default of 64 MB fails parallel queries, which need shared memory.
		testcontainers.WithHostConfigModifier(func(hc *apicontainer.HostConfig) { hc.ShmSize = sharedMemory }),
		postgres.BasicWaitStrategies(),
	)
	if err != nil {
		return Server{}, abandon(c, err)
	}
	url, err := c.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return Server{}, abandon(c, err)
	}
	return Server{URL: url, Detail: image, closer: container{c}}, nil
}

func dockerRedis(ctx context.Context) (Server, error) {
	if err := docker(); err != nil {
		return Server{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	image := cmp.Or(os.Getenv(RedisImageEnv), DefaultRedisImage)
	c, err := redis.Run(ctx, image)
	if err != nil {
		return Server{}, abandon(c, err)
	}
	url, err := c.ConnectionString(ctx)
	if err != nil {
		return Server{}, abandon(c, err)
	}
	return Server{URL: url + "/0", Detail: image, closer: container{c}}, nil
}

// abandon ends a container that started but cannot be used.
func abandon(c testcontainers.Container, err error) error {
	return errors.Join(err, testcontainers.TerminateContainer(c))
}
