// Package harness finds a Postgres and a Redis for a run of tests.
//
// For each of the two it takes the first of
//
//  1. the server that ICACHE_TEST_POSTGRES_URL or ICACHE_TEST_REDIS_URL names,
//  2. a container, where a Docker engine is running and has, or can pull, the
//     image ICACHE_TEST_POSTGRES_IMAGE or ICACHE_TEST_REDIS_IMAGE,
//  3. a server started from local binaries.
//
// ICACHE_TEST_SERVERS=env, docker or local forces one of the three.
package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// Environment variables beside those of package servertest.
const (
	ServersEnv       = "ICACHE_TEST_SERVERS"
	PostgresImageEnv = "ICACHE_TEST_POSTGRES_IMAGE"
	RedisImageEnv    = "ICACHE_TEST_REDIS_IMAGE"
)

// The images used when the environment names none.
const (
	DefaultPostgresImage = "postgres:18-alpine"
	DefaultRedisImage    = "redis:8-alpine"
)

// Source says where a server came from.
type Source string

// The sources, in the order in which they are tried.
const (
	FromEnv    Source = "env"
	FromDocker Source = "docker"
	FromLocal  Source = "local"
)

// Server is a running server.
type Server struct {
	URL    string
	Source Source
	Detail string // image or path of the binaries

	closer io.Closer // nil if the server is not ours
}

// Servers is a Postgres and a Redis.
type Servers struct{ Postgres, Redis Server }

// Start finds or starts both servers. Callers must call [Servers.Close]. The
// context bounds the start only. Steps of the ladder that fail are reported to
// log, one line each, before the next is tried.
func Start(ctx context.Context, log io.Writer) (*Servers, error) {
	forced := Source(os.Getenv(ServersEnv))
	switch forced {
	case "", FromEnv, FromDocker, FromLocal:
	default:
		return nil, fmt.Errorf("harness: %s=%s: want env, docker or local", ServersEnv, forced)
	}
	postgres, err := climb(ctx, forced, log, "Postgres", []rung{
		{FromEnv, fromEnv(servertest.PostgresURLEnv)},
		{FromDocker, dockerPostgres},
		{FromLocal, localPostgres},
	})
	if err != nil {
		return nil, err
	}
	redis, err := climb(ctx, forced, log, "Redis", []rung{
		{FromEnv, fromEnv(servertest.RedisURLEnv)},
		{FromDocker, dockerRedis},
		{FromLocal, localRedis},
	})
	if err != nil {
		return nil, errors.Join(err, postgres.close())
	}
	return &Servers{Postgres: postgres, Redis: redis}, nil
}

// Env returns the environment that makes tests use these servers.
func (s *Servers) Env() []string {
	return []string{
		servertest.PostgresURLEnv + "=" + s.Postgres.URL,
		servertest.RedisURLEnv + "=" + s.Redis.URL,
	}
}

// String says where the servers came from, without their URLs.
func (s *Servers) String() string {
	return fmt.Sprintf("Postgres: %s (%s), Redis: %s (%s)", s.Postgres.Source, s.Postgres.Detail, s.Redis.Source, s.Redis.Detail)
}

// Close stops the servers that Start started.
func (s *Servers) Close() error { return errors.Join(s.Postgres.close(), s.Redis.close()) }

func (s Server) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

type rung struct {
	source Source
	start  func(context.Context) (Server, error)
}

// errNotSet is the one failure not worth a line in the log.
var errNotSet = errors.New("not set")

func climb(ctx context.Context, forced Source, log io.Writer, what string, ladder []rung) (Server, error) {
	var errs []error
	for _, rung := range ladder {
		if forced != "" && forced != rung.source {
			continue
		}
		server, err := rung.start(ctx)
		if err == nil {
			server.Source = rung.source
			return server, nil
		}
		if ctx.Err() != nil {
			return Server{}, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", rung.source, err))
		if forced == "" && !errors.Is(err, errNotSet) {
			fmt.Fprintf(log, "%s: not from %s: %v\n", what, rung.source, err)
		}
	}
	return Server{}, fmt.Errorf("harness: no %s: %w", what, errors.Join(errs...))
}

func fromEnv(name string) func(context.Context) (Server, error) {
	return func(context.Context) (Server, error) {
		if url := os.Getenv(name); url != "" {
			return Server{URL: url, Detail: name}, nil
		}
		return Server{}, fmt.Errorf("%s is %w", name, errNotSet)
	}
}

func localPostgres(ctx context.Context) (Server, error) {
	server, err := localserver.StartPostgres(ctx, localserver.PostgresConfig{BinDir: os.Getenv(servertest.PostgresBinDirEnv)})
	if err != nil {
		return Server{}, err
	}
	return Server{URL: server.URL(), Detail: server.BinDir(), closer: server}, nil
}

func localRedis(ctx context.Context) (Server, error) {
	path, err := localserver.FindRedis()
	if err != nil {
		return Server{}, err
	}
	server, err := localserver.StartRedis(ctx, localserver.RedisConfig{Path: path})
	if err != nil {
		return Server{}, err
	}
	return Server{URL: server.URL(), Detail: path, closer: server}, nil
}
