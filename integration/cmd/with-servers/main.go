// Command with-servers runs a command with a Postgres and a Redis to test
// against, named by ICACHE_TEST_POSTGRES_URL and ICACHE_TEST_REDIS_URL, and
// stops them when the command has ended. Its exit status is the command's.
//
//	go run ./integration/cmd/with-servers go test ./...
//
// Package harness says where the servers come from.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/icache-go/icache-agent/integration/harness"
)

const (
	startTimeout = 5 * time.Minute
	endTimeout   = 30 * time.Second // for the command, after a signal
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: with-servers command [argument ...]")
		os.Exit(2)
	}
	// A terminal sends its interrupt to the command as well.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "with-servers:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (code int, err error) {
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	servers, err := harness.Start(startCtx, os.Stderr)
	if err != nil {
		return 1, err
	}
	defer func() {
		if closeErr := servers.Close(); closeErr != nil {
			code, err = max(code, 1), errors.Join(err, closeErr)
		}
	}()
	fmt.Fprintln(os.Stderr, servers)

	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), servers.Env()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = endTimeout
	err = cmd.Run()
	if ctx.Err() != nil && cmd.ProcessState.Success() {
		return 0, nil // it was told to end, and did
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil // what failed is on the command's own stderr
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
