package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/mapping"
)

func (a *app) bumpCommand() *cobra.Command {
	var all bool
	var table string
	cmd := &cobra.Command{
		Use:   "bump TOKEN…",
		Short: "Bump tokens by hand",
		Long: `Bumps tokens, as a change in the database would. Use it after what no trigger can see:
ATTACH or DETACH PARTITION, DROP TABLE, loads with session_replication_role = replica.
Pages are purged at the CDNs of the config as well, once; what fails there is an error.

  icache-agent bump movies movie:42     these tokens
  icache-agent bump --table movies      all that a change of unknown rows of the table bumps
  icache-agent bump --all               everything`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if n := boolToInt(len(args) > 0) + boolToInt(all) + boolToInt(table != ""); n != 1 {
				return usageErrorf("give tokens, or --table, or --all (see '%s --help')", cmd.CommandPath())
			}
			return a.withCache(cmd, func(ctx context.Context, cfg *config.Config, c *icache.Cache) error {
				sinks, err := openSinks(cfg)
				if err != nil {
					return err
				}
				defer closeSinks(sinks)
				if all {
					n, err := c.IncrAll(ctx)
					if err != nil {
						return err
					}
					if err := cdn.Purge(ctx, sinks, []string{mapping.Generation}); err != nil {
						return err
					}
					return a.print(map[string]any{"bumped": n, "all": true}, "bumped the generation and %d tokens\n", n)
				}
				if table != "" {
					var err error
					if args, err = tableTokens(cfg, table); err != nil {
						return err
					}
				}
				bump := c.IncrMany
				if cfg.Redis.ForeignReaders() {
					bump = func(ctx context.Context, tokens []string) error {
						_, err := agent.IncrForeign(ctx, c, tokens)
						return err
					}
				}
				if err := bump(ctx, args); err != nil {
					return err
				}
				if err := cdn.Purge(ctx, sinks, args); err != nil {
					return err
				}
				return a.printTokens(ctx, c, args)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "bump the generation and every token there is")
	cmd.Flags().StringVar(&table, "table", "", "bump the plain and group tokens of this table's rule")
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get TOKEN…",
		Short: "Print the values of tokens",
		Args:  someArgs("token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCache(cmd, func(ctx context.Context, _ *config.Config, c *icache.Cache) error {
				return a.printTokens(ctx, c, args)
			})
		},
	}
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

// withCache runs f on the Redis of the config.
func (a *app) withCache(cmd *cobra.Command, f func(context.Context, *config.Config, *icache.Cache) error) error {
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	rdb, opts, err := openRedis(cfg)
	if err != nil {
		return err
	}
	defer rdb.Close()
	if err := pingRedis(cmd.Context(), rdb); err != nil {
		return err
	}
	c, err := icache.New(rdb, opts...)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(cmd.Context(), cfg, c)
}

// printTokens prints one line for each token: the token, a tab, its value or "-" if it is absent.
func (a *app) printTokens(ctx context.Context, c *icache.Cache, tokens []string) error {
	values, err := c.Values(ctx, tokens...)
	if err != nil {
		return err
	}
	if a.json {
		out := make(map[string]*uint64, len(tokens))
		for _, t := range tokens {
			out[t] = nil
			if v, ok := values[t]; ok {
				out[t] = &v
			}
		}
		return a.printJSON(out)
	}
	for _, t := range tokens {
		if v, ok := values[t]; ok {
			fmt.Fprintf(a.stdout, "%s\t%d\n", printable(t), v)
		} else {
			fmt.Fprintf(a.stdout, "%s\t-\n", printable(t))
		}
	}
	return nil
}

func tableTokens(cfg *config.Config, name string) ([]string, error) {
	t, m, err := mapperFor(cfg, name)
	if err != nil {
		return nil, err
	}
	rule, err := ruleFor(m, t)
	if err != nil {
		return nil, err
	}
	return rule.Fallback(), nil
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// print prints v as JSON if that was asked for, else the text.
func (a *app) print(v any, format string, args ...any) error {
	if a.json {
		return a.printJSON(v)
	}
	_, err := fmt.Fprintf(a.stdout, format, args...)
	return err
}
