// Package servers finds or starts the two servers that the demo needs.
//
// Postgres: DATABASE_URL; Docker; binaries on this machine; on Debian as root,
// binaries installed with apt-get; binaries downloaded by embedded-postgres.
// Redis: REDIS_URL; Docker; a binary on this machine; apt-get as above;
// miniredis inside this process.
//
// A server that the user names is used or it is an error. Every other way that
// fails costs one line of output, and the next is tried. Close ends a server
// that was started here and removes all of its data.
package servers

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Environment variables that the package reads.
const (
	EnvPostgresURL        = "DATABASE_URL"
	EnvRedisURL           = "REDIS_URL"
	EnvPostgres           = "ICACHE_DEMO_POSTGRES"            // docker, local, install or embedded: this way only
	EnvRedis              = "ICACHE_DEMO_REDIS"               // docker, local, install or memory: this way only
	EnvPostgresImage      = "ICACHE_DEMO_POSTGRES_IMAGE"      // default postgres:17-alpine
	EnvRedisImage         = "ICACHE_DEMO_REDIS_IMAGE"         // default redis:7-alpine
	EnvPostgresRepository = "ICACHE_DEMO_POSTGRES_REPOSITORY" // mirror of the Maven repository that embedded-postgres downloads from
)

// Finder finds servers. It is not safe for concurrent use.
type Finder struct {
	// Getenv looks up environment variables. Commands are looked for in its PATH.
	Getenv func(string) string
	// Say takes one line for the user, without a newline.
	Say func(line string)

	updated bool   // apt-get update has run
	policy  string // overrides policyPath in tests
}

// Server is a running server.
type Server struct {
	Name  string // "Postgres" or "Redis"
	Where string // where it runs and since when, for people: "Docker container x", "/usr/lib/postgresql/17/bin on port 5"
	URL   string // with the password: not for logs, unless the server is one of ours
	Given bool   // the user named it: it is not ours to stop or to fill
	Short bool   // it lacks some commands of a real server (miniredis)

	client func(statement string) string
	close  func() error
}

// Client returns a shell command that runs a statement on the server, or "" if
// no client program is known. It shows no password of the user's.
func (s *Server) Client(statement string) string {
	if s.client == nil {
		return ""
	}
	return s.client(statement)
}

// Close ends the server if it was started here. It may be called again.
func (s *Server) Close() error {
	if s.close == nil {
		return nil
	}
	err := s.close()
	if err == nil {
		s.close = nil
	}
	return err
}

// way is one rung of the ladder.
type way struct {
	name  string
	start func(context.Context) (*Server, error)
}

// errNotHere says that a way does not apply to this machine, which is not worth a line.
var errNotHere = errors.New("not available here")

// climb tries the ways in order, or only the one that the variable names.
func (f *Finder) climb(ctx context.Context, server, variable string, ways []way) (*Server, error) {
	if only := f.Getenv(variable); only != "" {
		for _, w := range ways {
			if w.name == only {
				s, err := w.start(ctx)
				if err != nil {
					return nil, fmt.Errorf("%s=%s: %w", variable, only, err)
				}
				return s, nil
			}
		}
		names := make([]string, len(ways))
		for i, w := range ways {
			names[i] = w.name
		}
		return nil, fmt.Errorf("%s=%s: no such way to get a %s; use one of %s", variable, only, server, strings.Join(names, ", "))
	}
	var failed []error
	for i, w := range ways {
		s, err := w.start(ctx)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failed = append(failed, fmt.Errorf("%s: %w", w.name, err))
		if i+1 < len(ways) && !errors.Is(err, errNotHere) {
			f.Say(fmt.Sprintf("%s by way of %s: %s; trying the next way", server, w.name, firstLine(err.Error())))
		}
	}
	return nil, fmt.Errorf("no %s could be found or started: %w", server, errors.Join(failed...))
}

// lookPath finds a command in the PATH of the finder's environment, or returns "".
func (f *Finder) lookPath(name string) string {
	for _, dir := range filepath.SplitList(f.Getenv("PATH")) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// run runs a command for at most the given time and returns its standard output.
func (f *Finder) run(ctx context.Context, limit time.Duration, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	path := f.lookPath(name)
	if path == "" {
		return "", fmt.Errorf("%w: no %s command", errNotHere, name)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	if env != nil {
		cmd.Env = append(cmd.Environ(), env...)
	}
	cmd.WaitDelay = time.Second // a grandchild may hold the pipes open
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return strings.TrimSpace(string(out)), nil
	}
	what := name
	if len(args) > 0 {
		what += " " + args[0]
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s did not finish within %s: %w", what, limit, ctx.Err())
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		return "", fmt.Errorf("%s: %w: %s", what, err, lastLine(text))
	}
	return "", fmt.Errorf("%s: %w", what, err)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

// shellQuote quotes s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// doubleQuote quotes a statement for a POSIX shell so that 'literals' stay readable.
func doubleQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}

// poll calls try until it returns nil, gone returns an error, or the time is up.
func poll(ctx context.Context, limit time.Duration, try, gone func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if goneErr := gone(ctx); goneErr != nil && ctx.Err() == nil {
			return goneErr
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", limit, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
