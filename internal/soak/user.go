package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

// AgentSchema holds the objects of the agent that [OnServers] runs.
const AgentSchema = "icache_soak_agent"

// Servers are somebody's own: everything is done in schemas and under keys of
// the check's own, which are removed again.
type Servers struct {
	PostgresURL string
	Redis       redis.UniversalClient
	Wake        listener.Wake
	Logger      *slog.Logger
	// Check is the load. DB, Redis, Cache and TokenKey are filled in.
	Check Config
}

// prefix of the keys in Redis.
const prefix = "icache-soak:"

// OnServers runs a check with an agent in this process until ctx ends.
func OnServers(ctx context.Context, s Servers) (_ Report, err error) {
	cleanup := context.WithoutCancel(ctx)
	db, err := pgxpool.New(cleanup, s.PostgresURL)
	if err != nil {
		return Report{}, errors.New("postgres.url cannot be parsed")
	}
	defer db.Close()
	rule := Rule()
	mapper, err := mapping.Compile([]mapping.Rule{rule})
	if err != nil {
		return Report{}, err
	}
	migrate := func(ctx context.Context, f func(*migrations.Migrator) error) error {
		conn, err := pgx.Connect(ctx, s.PostgresURL)
		if err != nil {
			return fmt.Errorf("connect to postgres: %s", strings.Join(strings.Fields(err.Error()), " "))
		}
		defer conn.Close(cleanup)
		m, err := migrations.New(conn, migrations.Config{Rules: mapper, Schema: AgentSchema})
		if err != nil {
			return err
		}
		return f(m)
	}
	defer func() { err = errors.Join(err, leaveNothing(cleanup, db, s.Redis, migrate)) }()
	if err := Prepare(ctx, db); err != nil {
		return Report{}, err
	}
	if err := migrate(ctx, func(m *migrations.Migrator) error { _, err := m.Up(ctx); return err }); err != nil {
		return Report{}, err
	}
	tokenKey := prefix + "t:{token}"
	options := []icache.Option{icache.WithPrefix(prefix), icache.WithTokenKey(tokenKey)}
	cache, err := icache.New(s.Redis, options...)
	if err != nil {
		return Report{}, err
	}
	defer cache.Close()
	a, err := agent.New(agent.Config{
		Postgres: listener.Config{URL: s.PostgresURL, Schema: AgentSchema, Wake: s.Wake},
		Redis:    s.Redis, CacheOptions: options, Rules: []mapping.Rule{rule}, Logger: s.Logger,
	})
	if err != nil {
		return Report{}, err
	}
	// The agent outlives the load: it has to bring everything to rest.
	running, stop := context.WithCancel(cleanup)
	var g errgroup.Group
	g.Go(func() error { return a.Run(running) })
	defer func() {
		stop()
		err = errors.Join(err, g.Wait())
	}()
	s.Check.DB, s.Check.Redis, s.Check.Cache, s.Check.TokenKey = db, s.Redis, cache, tokenKey
	check, err := New(s.Check)
	if err != nil {
		return Report{}, err
	}
	return check.Run(ctx)
}

func leaveNothing(ctx context.Context, db *pgxpool.Pool, rdb redis.UniversalClient, migrate func(context.Context, func(*migrations.Migrator) error) error) error {
	err := migrate(ctx, func(m *migrations.Migrator) error { _, err := m.Down(ctx); return err })
	if _, derr := db.Exec(ctx, "DROP SCHEMA IF EXISTS icache_soak CASCADE"); derr != nil {
		err = errors.Join(err, fmt.Errorf("drop schema icache_soak: %w", derr))
	}
	remove := func(ctx context.Context, c redis.Cmdable) error {
		keys := c.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			if err := c.Unlink(ctx, keys.Val()).Err(); err != nil {
				return err
			}
		}
		return keys.Err()
	}
	var rerr error
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		rerr = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return remove(ctx, c) })
	} else {
		rerr = remove(ctx, rdb)
	}
	if rerr != nil {
		err = errors.Join(err, fmt.Errorf("remove the keys %s* from redis: %w", prefix, rerr))
	}
	return err
}
