package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/mapping"
)

func (a *app) checkCommand() *cobra.Command {
	var t try
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the config, offline",
		Long: `Reads the config and says what is wrong with it, every mistake with file:line:column.
Connects to nothing.

With --table it says which tokens a change of a row would bump. Rows are JSON objects of
columns; values are JSON values, or strings in the text form of Postgres.

  icache-agent check
  icache-agent check --table movies --new '{"id": 42, "genre_id": 7}'
  icache-agent check --table movies --op update --old '{"id": 42, "genre_id": 7}' --new '{"id": 42, "genre_id": 8}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			if t.given() {
				out, err := t.run(cfg)
				if err != nil {
					return err
				}
				return a.printTry(out)
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
				return a.printJSON(map[string]any{"ok": true, "file": cfg.File(), "tables": len(m.Rules()), "patterns": len(cfg.Patterns())})
			}
			fmt.Fprintf(a.stdout, "%s is fine: %d tables\n", file, len(m.Rules()))
			for _, p := range cfg.Patterns() {
				fmt.Fprintf(a.stdout, "  %s\n", described(p))
			}
			for _, r := range m.Rules() {
				fmt.Fprintf(a.stdout, "  %s\n", r.Rule.Table)
				for _, t := range r.Templates {
					fmt.Fprintf(a.stdout, "    %s\n", t)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&t.table, "table", "", "print the tokens of a change of this table")
	cmd.Flags().StringVar(&t.op, "op", "", "the change: insert, update, delete or truncate (default: what --old and --new make it)")
	cmd.Flags().StringVar(&t.old, "old", "", "the row before, as a `JSON` object of columns")
	cmd.Flags().StringVar(&t.new, "new", "", "the row after, as a `JSON` object of columns")
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) printTry(out *tryOut) error {
	if a.json {
		return a.printJSON(out)
	}
	a.notes(out.Notes)
	for _, t := range out.Tokens {
		fmt.Fprintln(a.stdout, printable(t))
	}
	return nil
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
