package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/soak"
	"github.com/icache-go/icache-agent/listener"
)

func (a *app) soakCommand() *cobra.Command {
	var duration time.Duration
	var load soak.Config
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Check the promises on your own servers: every read against what had been acknowledged",
		Long: `Writes and reads under load, with an agent of its own, and holds every value that is read
against what had been acknowledged when the read began. Break your servers meanwhile, as you
please: restart them, fail over, cut the network.

It works in schemas of its own (icache_soak, icache_soak_agent) and under Redis keys of its own
(icache-soak:*), and removes them at the end. Exits 3 if a promise was broken.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.soak(cmd, duration, load) },
	}
	cmd.Flags().DurationVar(&duration, "duration", time.Minute, "how long")
	cmd.Flags().IntVar(&load.Rows, "rows", 50, "rows that are counted up")
	cmd.Flags().IntVar(&load.Writers, "writers", 4, "concurrent writers")
	cmd.Flags().IntVar(&load.Readers, "readers", 8, "concurrent readers")
	cmd.Flags().DurationVar(&load.Pause, "pause", 5*time.Millisecond, "pause between two writes of a writer")
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) soak(cmd *cobra.Command, duration time.Duration, load soak.Config) error {
	if duration <= 0 || load.Rows <= 0 || load.Writers <= 0 || load.Readers <= 0 {
		return usageErrorf("--duration, --rows, --writers and --readers must be positive")
	}
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	if err := cfg.RequirePostgres(); err != nil {
		return err
	}
	log, err := a.logger(cfg)
	if err != nil {
		return err
	}
	rdb, _, err := openRedis(cfg)
	if err != nil {
		return err
	}
	defer rdb.Close()
	if err := pingRedis(cmd.Context(), rdb); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), duration)
	defer cancel()
	report, err := soak.OnServers(ctx, soak.Servers{
		PostgresURL: string(cfg.Postgres.URL), Redis: rdb, Wake: listener.Wake(cfg.Postgres.Wake), Logger: log, Check: load,
	})
	if err != nil {
		return fmt.Errorf("soak: %w", err)
	}
	if err := a.print(report, "%s", report); err != nil {
		return err
	}
	if !report.OK() {
		return &exitError{code: exitProblem}
	}
	return nil
}
