//go:build unix

package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// output is written by a command and read by the test meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func TestRunReadsTheConfigAgain(t *testing.T) {
	t.Parallel()
	const more = movieRules + "\n  - table: genres\n    tokens: [genres]"
	w := newWorld(t, movies, movieRules)
	listen := freeAddress(t)
	write := func(rules, suffix string) {
		t.Helper()
		next := w.write(t, "next.yaml", w.yaml(servertest.Redis(t), listen, rules)+suffix)
		require.NoError(t, os.Rename(next, filepath.Join(w.dir, "icache.yaml")))
	}
	write(movieRules, "")
	w.ok(t, "migrate", "up")

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var log output
	go func() { done <- Run(ctx, []string{"run", "--watch", "-c", w.config}, []string{}, &log, &log) }()
	defer func() {
		cancel()
		require.Equal(t, exitOK, <-done, "%s", log.String())
	}()
	status := func() agent.Status { return decode[agent.Status](t, w.ok(t, "status", "--json")) }
	eventually := func(what string, cond func() bool) {
		t.Helper()
		require.Eventually(t, cond, 30*time.Second, 50*time.Millisecond, what)
	}
	eventually("ready", func() bool { return w.run(t, "healthcheck").code == exitOK })
	require.Len(t, status().Tables, 1)

	write(more, "log: {level: debug}\n")
	eventually("watched", func() bool { return len(status().Tables) == 2 })
	require.Equal(t, []string{"log.level"}, status().Config.RestartNeeded)
	eventually("no triggers yet", func() bool { return status().Tables[1].MigrationDue != "" })
	w.ok(t, "migrate", "up")
	eventually("migrated", func() bool { return status().Tables[1].MigrationDue == "" })

	good, err := os.ReadFile(w.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.config, []byte(strings.Replace(string(good), "tokens: [genres]", "token: [genres]", 1)), 0o600))
	eventually("refused", func() bool { return strings.Contains(log.String(), "the config was not reloaded") })
	require.Contains(t, log.String(), `unknown key \"token\" in tables[1] (did you mean \"tokens\"?)`)

	require.NoError(t, os.WriteFile(w.config, good, 0o600))
	eventually("taken up again", func() bool { return status().Config.Error == "" })
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	eventually("hung up", func() bool { return strings.Contains(log.String(), "reason=SIGHUP") })

	// A file that is gone must not be read as one without rules.
	require.NoError(t, os.Remove(w.config))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	eventually("missing", func() bool { return strings.Contains(log.String(), "cannot read the config") })
	require.NoError(t, os.WriteFile(w.config, good, 0o600))
	eventually("back", func() bool { return len(status().Tables) == 2 })
}

func TestWatchNeedsAFile(t *testing.T) {
	t.Parallel()
	r := agentCLIEnv(t, []string{"ICACHE_POSTGRES__URL=postgres://localhost/x", "ICACHE_REDIS__URL=redis://localhost"}, "run", "--watch")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "--watch without a config file")
}
