// Package cli is the command line of icache-agent.
//
// Exit codes: 0 ok, 1 failed, 2 usage or config, 3 a check found drift or a
// problem. Errors go to stderr, one line each, with a hint where there is one.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/suggest"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitProblem = 3
)

// app is what every command shares.
type app struct {
	env            []string
	stdout, stderr io.Writer
	configFile     string
	json           bool
}

// Run executes one command line and returns the exit code of the process. It
// returns soon after ctx ends.
func Run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	quietRedis()
	a := &app{env: env, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var quiet *exitError
	if errors.As(err, &quiet) && quiet.err == nil {
		return quiet.code
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(stderr, "icache-agent: "+strings.TrimSuffix(line, "\n"))
	}
	return exitCode(err)
}

// quietRedis keeps go-redis from writing to the process's stderr; its errors
// are reported here.
var quietRedis = sync.OnceFunc(logging.Disable)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "icache-agent",
		Short: "Invalidate caches from the database: changes in Postgres bump tokens in Redis",
		Long: `icache-agent generates triggers, hears of every committed change in Postgres, maps it
to cache tokens by config and increments them in Redis.

  icache-agent demo                      try it, with servers it starts itself
  icache-agent migrate up -c icache.yaml create the triggers
  icache-agent run -c icache.yaml        watch and bump`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageErrorf("%w (see '%s --help')", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = false
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "", "config file (default icache.yaml if it is there)")
	root.AddCommand(
		a.runCommand(), a.demoCommand(), a.initCommand(), a.checkCommand(), a.migrateCommand(),
		a.explainCommand(), a.tailCommand(), a.bumpCommand(), a.getCommand(), a.statusCommand(), a.healthcheckCommand(),
		a.doctorCommand(), a.soakCommand(), a.schemaCommand(), a.versionCommand(),
	)
	return root
}

// exitError carries an exit code; with a nil err nothing more is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageErrorf(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if isConfigError(err) || strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	return exitFailed
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		hint := suggest.DidYouMean(args[0], names)
		if hint == "" {
			hint = fmt.Sprintf("see '%s --help'", cmd.CommandPath())
		}
		return usageErrorf("unknown command %q for %q (%s)", args[0], cmd.CommandPath(), hint)
	}
	return usageErrorf("%q takes no arguments, got %q (see '%s --help')", cmd.CommandPath(), args[0], cmd.CommandPath())
}

func someArgs(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageErrorf("%q needs at least one %s (see '%s --help')", cmd.CommandPath(), what, cmd.CommandPath())
		}
		return nil
	}
}

// version is the module version the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

func levelOf(name string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return 0, fmt.Errorf("log level %q: want debug, info, warn or error", name)
	}
	return l, nil
}

// getenv looks up a variable in the environment that was passed in.
func (a *app) getenv(name string) string {
	for _, set := range slices.Backward(a.env) {
		if v, ok := strings.CutPrefix(set, name+"="); ok {
			return v
		}
	}
	return ""
}
