// Command icache-agent watches a Postgres database and bumps cache tokens in
// Redis. See the README for how to use it.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/icache-go/icache-agent/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is main with everything it touches passed in; it returns the exit code.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, args, env, stdout, stderr)
}
