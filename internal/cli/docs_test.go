package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
)

var update = flag.Bool("update", false, "write docs/commands.md")

// TestCommandsDoc keeps docs/commands.md equal to the commands.
func TestCommandsDoc(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`# Commands

<!-- Written by go test ./internal/cli -run TestCommandsDoc -update from the commands themselves. -->

Exit codes: 0 ok, 1 failed, 2 usage or config, 3 a check found drift or a problem. Errors go to
stderr, one line each, with a hint where there is one.
`)
	root := (&app{}).root()
	common := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.RegisterFlags(common)
	b.WriteString("\nEvery command that reads the config takes these flags; they override the file and the environment.\n")
	b.WriteString(flagTable(common, nil) + flagRow(root.PersistentFlags().Lookup("config")))
	describe(&b, root, common)
	path := filepath.Join("..", "..", "docs", "commands.md")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "run: go test ./internal/cli -run TestCommandsDoc -update")
}

// describe writes a section for the command and those below it.
func describe(b *strings.Builder, cmd *cobra.Command, common *pflag.FlagSet) {
	if !cmd.HasSubCommands() {
		text := cmd.Long
		if text == "" {
			text = cmd.Short + "."
		}
		// The text is laid out for a terminal; fenced, it stays as it is.
		fmt.Fprintf(b, "\n## %s\n\n```text\n%s\n```\n", cmd.CommandPath(), text)
		b.WriteString(flagTable(cmd.NonInheritedFlags(), common))
	}
	for _, sub := range cmd.Commands() {
		describe(b, sub, common)
	}
}

// flagTable lists flags without those that are common to all.
func flagTable(flags, common *pflag.FlagSet) string {
	var rows strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if common != nil {
			if c := common.Lookup(f.Name); f.Name == "help" || c != nil && c.Usage == f.Usage {
				return
			}
		}
		rows.WriteString(flagRow(f))
	})
	if rows.Len() == 0 {
		return ""
	}
	return "\n| flag | |\n| --- | --- |\n" + rows.String()
}

func flagRow(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if value != "" {
		name += " " + value
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
		usage += " (default " + f.DefValue + ")"
	}
	return fmt.Sprintf("| `%s` | %s |\n", name, strings.NewReplacer("|", `\|`, "*", `\*`, "<", `\<`).Replace(usage))
}

// TestReadmeNamesCommands: the table in the README leaves none out.
func TestReadmeNamesCommands(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	_, table, found := strings.Cut(string(readme), "\n## Commands\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	for _, cmd := range (&app{}).root().Commands() {
		require.Contains(t, table, cmd.Name())
		for _, sub := range cmd.Commands() {
			require.Contains(t, table, sub.Name(), cmd.Name())
		}
	}
}
