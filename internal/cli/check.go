package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/mapping"
)

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the config, offline",
		Long:  "Reads the config and says what is wrong with it, every mistake with file:line:column. Connects to nothing.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			m, err := mapping.Compile(cfg.Rules())
			if err != nil {
				return err
			}
			file := cfg.File()
			if file == "" {
				file = "the config"
			}
			if a.json {
				return a.printJSON(map[string]any{"ok": true, "file": cfg.File(), "tables": len(m.Rules())})
			}
			fmt.Fprintf(a.stdout, "%s is fine: %d tables\n", file, len(m.Rules()))
			for _, r := range m.Rules() {
				fmt.Fprintf(a.stdout, "  %s\n", r.Rule.Table)
				for _, t := range r.Templates {
					fmt.Fprintf(a.stdout, "    %s\n", t)
				}
			}
			return nil
		},
	}
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

// mapperFor compiles the rules and gives the canonical name of a table that a user wrote.
func mapperFor(cfg *config.Config, table string) (string, *mapping.Mapper, error) {
	t, err := mapping.ParseTableName(table)
	if err != nil {
		return "", nil, usageErrorf("table %q: %w", table, err)
	}
	m, err := mapping.Compile(cfg.Rules())
	if err != nil {
		return "", nil, err
	}
	return t.String(), m, nil
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the config, for editors",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(s)
			return err
		},
	}
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.print(map[string]string{"version": version()}, "icache-agent %s\n", version())
		},
	}
	a.jsonFlag(cmd)
	return cmd
}
