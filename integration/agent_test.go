package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

const (
	readyTimeout   = 30 * time.Second
	stopTimeout    = 5 * time.Second // what SIGTERM promises
	commandTimeout = time.Minute
)

type removeAll string

func (dir removeAll) Close() error { return os.RemoveAll(string(dir)) }

// binary builds the agent once for all tests, with the race detector if they have it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "icache-agent-")
	if err != nil {
		return "", err
	}
	servertest.OnExit(removeAll(dir))
	path := filepath.Join(dir, "icache-agent")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/icache-go/icache-agent/cmd/icache-agent")...).CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// cli runs one command of the agent to its end.
func cli(t *testing.T, args ...string) result {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = cleanEnv()
	cmd.Dir = t.TempDir() // no icache.yaml to be found by accident
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	require.NoError(t, ctx.Err(), "icache-agent %s did not end\n%s", strings.Join(args, " "), &stderr)
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		require.NoError(t, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// succeed runs a command that has to succeed and returns its output.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	r := cli(t, args...)
	require.Zero(t, r.code, "icache-agent %s\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
	return r.stdout
}

// cleanEnv is the environment without what would configure the agent.
func cleanEnv() []string {
	var env []string
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "ICACHE_") && !strings.HasPrefix(setting, "PG") {
			env = append(env, setting)
		}
	}
	return env
}

// agent is a running `icache-agent run`.
type agent struct {
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{}
	http string // base URL of its status server
}

// startAgent starts an agent and returns once it answers /readyz.
func startAgent(t *testing.T, config string) *agent {
	t.Helper()
	a := launchAgent(t, config)
	a.awaitReady(t)
	return a
}

// launchAgent starts an agent without waiting for it.
func launchAgent(t *testing.T, config string) *agent {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	return launchBinary(t, path, config)
}

// launchBinary starts an agent that was built otherwise.
func launchBinary(t *testing.T, path, config string, env ...string) *agent {
	t.Helper()
	a := &agent{cmd: exec.Command(path, "run", "-c", config), log: &lockedBuffer{}, done: make(chan struct{})}
	a.cmd.Env = append(cleanEnv(), env...)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	require.NoError(t, a.cmd.Start())
	go func() {
		_ = a.cmd.Wait() // tests look at ProcessState
		close(a.done)
	}()
	t.Cleanup(func() {
		a.kill()
		if t.Failed() {
			t.Logf("log of the agent with pid %d:\n%s", a.cmd.Process.Pid, a.log)
		}
	})
	return a
}

func (a *agent) awaitReady(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	for {
		if a.http == "" {
			a.http = a.announced()
		}
		if a.http != "" && get(ctx, a.http+"/readyz", nil) == nil {
			return
		}
		select {
		case <-a.done:
			t.Fatalf("the agent ended with %s\n%s", a.cmd.ProcessState, a.log)
		case <-ctx.Done():
			t.Fatalf("the agent is not ready\n%s", a.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// announced finds the address of the status server, whose port the system
// chose, in the line that the agent logs at its start.
func (a *agent) announced() string {
	for line := range strings.Lines(a.log.String()) {
		var entry struct {
			HTTP string `json:"http"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.HTTP != "" {
			return entry.HTTP
		}
	}
	return ""
}

// kill ends the agent with SIGKILL.
func (a *agent) kill() {
	_ = a.cmd.Process.Kill() // it may have ended already
	<-a.done
}

// terminate sends SIGTERM and requires what is promised for it.
func (a *agent) terminate(t *testing.T) {
	t.Helper()
	began := time.Now()
	require.NoError(t, a.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-a.done:
	case <-time.After(stopTimeout):
		t.Fatalf("the agent has not ended %s after SIGTERM\n%s", stopTimeout, a.log)
	}
	require.Zero(t, a.cmd.ProcessState.ExitCode(), "exit code after SIGTERM\n%s", a.log)
	t.Logf("SIGTERM: ended after %s", time.Since(began).Round(time.Millisecond))
}

// get decodes the JSON answer of an endpoint, if v is not nil.
func get(ctx context.Context, url string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Close = true // no idle connection for goleak to find
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status + ": " + string(body))
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(body, v)
}

// lockedBuffer is a buffer that one goroutine may write while others read. Of
// much it keeps the beginning and the end.
type lockedBuffer struct {
	mu   sync.Mutex
	head []byte
	tail []byte
}

const keepLog = 1 << 20

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.head) < keepLog {
		b.head = append(b.head, p...)
		return len(p), nil
	}
	if b.tail = append(b.tail, p...); len(b.tail) > 2*keepLog {
		b.tail = append(b.tail[:0], b.tail[len(b.tail)-keepLog:]...)
	}
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.head) + string(b.tail)
}
