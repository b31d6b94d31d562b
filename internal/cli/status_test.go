package cli

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// startAgent installs the triggers and runs an agent, by the command line,
// until the test ends or stop is called.
func (w *world) startAgent(t *testing.T, rules string) (stop func()) {
	t.Helper()
	w.config = w.write(t, "icache.yaml", w.yaml(servertest.Redis(t), freeAddress(t), rules))
	w.ok(t, "migrate", "up")
	return w.runAgent(t)
}

// runAgent starts an agent with the config as it is and waits until it is ready.
func (w *world) runAgent(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var stdout, stderr bytes.Buffer
	go func() { done <- Run(ctx, []string{"run", "-c", w.config}, []string{}, &stdout, &stderr) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.Equal(t, exitOK, <-done, "%s", &stderr)
	}
	t.Cleanup(stop)
	require.Eventually(t, func() bool { return w.run(t, "healthcheck").code == exitOK }, 30*time.Second, 20*time.Millisecond)
	return stop
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func TestStatusAndHealthcheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	stop := w.startAgent(t, movieRules)

	require.Empty(t, w.ok(t, "healthcheck"))
	text := w.ok(t, "status")
	require.Contains(t, text, "ready")
	require.Contains(t, text, "public.movies")
	s := decode[agent.Status](t, w.ok(t, "status", "--json"))
	require.True(t, s.Ready)
	require.True(t, s.Redis.Up)

	w.exec(t, "UPDATE movies SET title = 'C' WHERE id = 42")
	require.Eventually(t, func() bool {
		return decode[map[string]*uint64](t, w.ok(t, "get", "movie:42", "--json"))["movie:42"] != nil
	}, 20*time.Second, 20*time.Millisecond)

	stop()
	require.Equal(t, exitFailed, w.run(t, "healthcheck").code)
}
