package demo

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/demo/servers"
)

// child runs the demo as a process of its own, with a directory of its own for
// temporary files, until its page is up.
func child(t *testing.T) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	// The servers run as another user if the test runs as root.
	require.NoError(t, os.Chmod(filepath.Dir(tmp), 0o755))
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"=1", "TMPDIR="+tmp,
		servers.EnvPostgres+"=local", servers.EnvRedis+"=local", servers.EnvPostgresURL+"=", servers.EnvRedisURL+"=")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Ctrl-C") {
			go func() { // or it would block
				for lines.Scan() {
				}
			}()
			return cmd, tmp
		}
	}
	require.Fail(t, "the demo ended before its page was up")
	return nil, ""
}

// using returns the command lines of the processes that mention a directory.
func using(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), dir) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

func TestInterruptLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			cmd, tmp := child(t)
			require.NotEmpty(t, using(t, tmp), "the servers are running")
			require.NoError(t, cmd.Process.Signal(sig))
			require.NoError(t, cmd.Wait())
			require.Empty(t, using(t, tmp), "processes are left")
			left, err := os.ReadDir(tmp)
			require.NoError(t, err)
			require.Empty(t, left, "files are left")
		})
	}
}

func TestKilledDemoTakesItsServersAlong(t *testing.T) {
	t.Parallel()
	cmd, tmp := child(t)
	require.NotEmpty(t, using(t, tmp), "the servers are running")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Eventually(t, func() bool { return len(using(t, tmp)) == 0 }, 20*time.Second, 50*time.Millisecond, "processes are left")
}
