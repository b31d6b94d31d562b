package cli

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/introspect"
	"github.com/icache-go/icache-agent/mapping"
)

// mapper compiles the rules of a config, with those for the tables that its
// patterns mean in the database.
func (a *app) mapper(ctx context.Context, cfg *config.Config, conn *pgx.Conn) (*mapping.Mapper, error) {
	rules, notes, err := introspect.Expand(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	a.notes(notes)
	return mapping.Compile(rules)
}

// expanded returns the rules of a config for an agent: with patterns it takes a
// connection, and waits for one until ctx ends.
func expanded(ctx context.Context, cfg *config.Config, log *slog.Logger) ([]mapping.Rule, error) {
	if len(cfg.Patterns()) == 0 {
		return cfg.Rules(), nil
	}
	for {
		rules, notes, err := expandOnce(ctx, cfg)
		if err == nil {
			for _, n := range notes {
				log.WarnContext(ctx, "agent: config", "warning", n)
			}
			return rules, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		log.WarnContext(ctx, "agent: cannot find the tables that the config means by wildcards, will try again", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

func expandOnce(ctx context.Context, cfg *config.Config) ([]mapping.Rule, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := connectPostgres(ctx, cfg, "icache-agent")
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return introspect.Expand(ctx, conn, cfg)
}

// described says of a pattern what is known without a database.
func described(p config.Pattern) string {
	return fmt.Sprintf("%s: a rule for each table without one of its own, known when connected", p.String())
}
