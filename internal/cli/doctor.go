package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/doctor"
	"github.com/icache-go/icache-agent/mapping"
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check connections, poolers, rights, drift, CDNs and the settings of both servers",
		Long: `Checks everything around the agent that can be set up wrongly, and says of each finding
what it means and what to do. Changes nothing. Exits 3 if a finding is serious.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd) },
	}
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) doctor(cmd *cobra.Command) error {
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	if err := cfg.RequirePostgres(); err != nil {
		return err
	}
	list := cfg.Rules()
	if len(cfg.Patterns()) > 0 {
		// Without a connection, which is a finding, no rule is compared.
		if all, notes, err := expandOnce(cmd.Context(), cfg); err == nil {
			a.notes(notes)
			list = all
		}
	}
	rules, err := mapping.Compile(list)
	if err != nil {
		return err
	}
	rdb, _, err := openRedis(cfg)
	if err != nil {
		return err
	}
	defer rdb.Close()
	sinks, err := openSinks(cfg)
	if err != nil {
		return err
	}
	defer closeSinks(sinks)
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	findings, err := doctor.Examine(ctx, doctor.Config{
		Schema: cfg.Postgres.Schema, Rules: rules, TokenKey: cfg.Redis.TokenKey, Redis: rdb,
		Sinks:     sinks,
		SizeLimit: sizeLimit(cfg), AgentRole: cfg.Postgres.AgentRole, WriterRole: cfg.Postgres.WriterRole, EventTrigger: cfg.Postgres.EventTrigger,
		Connect: func(ctx context.Context) (*pgx.Conn, error) { return connectPostgres(ctx, cfg, "icache-agent doctor") },
	})
	if err != nil {
		return fmt.Errorf("examine: %w", err)
	}
	if err := a.printFindings(findings); err != nil {
		return err
	}
	if doctor.Worst(findings) == doctor.Serious {
		return &exitError{code: exitProblem}
	}
	return nil
}

func (a *app) printFindings(findings []doctor.Finding) error {
	if a.json {
		return a.printJSON(findings)
	}
	for _, f := range findings {
		fmt.Fprintf(a.stdout, "%-8s %s: %s\n", f.Level, f.Check, f.Found)
		for _, more := range []string{f.Meaning, f.Hint} {
			if more != "" {
				fmt.Fprintf(a.stdout, "         %s\n", more)
			}
		}
	}
	return nil
}
