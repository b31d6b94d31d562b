package cli

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/listener"
)

func (a *app) runCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch the database and bump tokens in Redis",
		Long: `Watches the tables of the config and bumps the tokens of every committed change.

Any number of agents may run; one applies changes, the others stand by. SIGTERM or
Ctrl-C finishes the batch in hand and exits 0.

SIGHUP, and --watch when the file changes, read the config again. New rules take the place
of the old ones, and what they may have missed is outdated once; a config with a mistake
changes nothing. Other settings than the tables take a restart.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd, watch) },
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "read the config again when the file changes")
	config.RegisterFlags(cmd.Flags())
	return cmd
}

func (a *app) run(cmd *cobra.Command, watch bool) error {
	ctx := cmd.Context()
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	if err := cfg.RequirePostgres(); err != nil {
		return err
	}
	if watch && cfg.File() == "" {
		return usageErrorf("--watch without a config file (name it with --config)")
	}
	log, err := a.logger(cfg)
	if err != nil {
		return err
	}
	rdb, opts, err := openRedis(cfg)
	if err != nil {
		return err
	}
	defer rdb.Close()
	rules, err := expanded(ctx, cfg, log)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	sinks, err := openSinks(cfg)
	if err != nil {
		return err
	}
	defer closeSinks(sinks)
	ag, err := agent.New(agent.Config{
		Postgres: listener.Config{
			URL: string(cfg.Postgres.URL), Schema: cfg.Postgres.Schema, Wake: listener.Wake(cfg.Postgres.Wake),
		},
		Redis: rdb, CacheOptions: opts, Rules: rules,
		Sinks:        sinks,
		Discover:     len(cfg.Patterns()) > 0,
		Load:         a.loader(a.configOptions(cmd.Flags()), cfg, log),
		HTTPListen:   cfg.HTTP.Listen,
		ReplayWindow: replayWindow(cfg), Lease: cfg.Redis.Lease, WaitReplicas: cfg.Redis.WaitReplicas, ForeignReaders: cfg.Redis.ForeignReaders(),
		Version: version(), Logger: log,
	})
	if err != nil {
		return err
	}
	defer reloads(ctx, ag, cfg.File(), watch)()
	return ag.Run(ctx)
}

// replayWindow translates "0s means nothing is" to the agent's "negative means never".
func replayWindow(cfg *config.Config) time.Duration {
	if cfg.Redis.ReplayWindow == 0 {
		return -1
	}
	return cfg.Redis.ReplayWindow
}

// load reads the config for a command and logs its warnings.
func (a *app) load(cmd *cobra.Command) (*config.Config, error) { return a.loadWith(cmd.Flags()) }

func (a *app) configOptions(flags *pflag.FlagSet) config.Options {
	return config.Options{File: a.configFile, Environ: a.env, Flags: flags}
}

func (a *app) loadWith(flags *pflag.FlagSet) (*config.Config, error) {
	cfg, warnings, err := config.Load(a.configOptions(flags))
	for _, w := range warnings {
		fmt.Fprintln(a.stderr, "icache-agent: warning: "+w)
	}
	return cfg, err
}

func (a *app) logger(cfg *config.Config) (*slog.Logger, error) {
	level, err := levelOf(cfg.Log.Level)
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, opts)), nil
	}
	return slog.New(slog.NewTextHandler(a.stderr, opts)), nil
}

// openRedis returns a client for the agent's Redis, which connects on first
// use, and the options of the cache on it.
func openRedis(cfg *config.Config) (redis.UniversalClient, []icache.Option, error) {
	if err := cfg.RequireRedis(); err != nil {
		return nil, nil, err
	}
	o, err := cfg.Redis.Options()
	if err != nil {
		return nil, nil, err
	}
	// Deadlines must reach the socket, and a Redis that hangs must be noticed
	// while the outbox still has room; the agent repeats what fails by itself.
	o.ContextTimeoutEnabled = true
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 3 * time.Second
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 2 * time.Second
	}
	if o.MaxRetries == 0 {
		o.MaxRetries = 1
	}
	opts := []icache.Option{icache.WithTokenKey(cfg.Redis.TokenKey)}
	if cfg.Redis.AbsentTokens == "skip" {
		opts = append(opts, icache.WithAbsentTokens(icache.AbsentSkip))
	}
	return redis.NewUniversalClient(o), opts, nil
}

// pingRedis fails early and readably for the commands that need Redis now.
func pingRedis(ctx context.Context, rdb redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("reach redis: %w (check redis.url, and that the server is up)", err)
	}
	return nil
}
