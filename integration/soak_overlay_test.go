package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patch is a change of the source, so that the product needs no seams for what
// only these tests do.
type patch struct{ file, from, to string }

// build builds the agent with changes of its source (go build -overlay).
func build(t *testing.T, race bool, patches ...patch) string {
	t.Helper()
	dir := t.TempDir()
	replace := make(map[string]string)
	for _, p := range patches {
		var text string
		if copied, again := replace[p.file]; again || p.from != "" {
			if !again {
				copied = p.file
			}
			b, err := os.ReadFile(copied)
			require.NoError(t, err)
			text = string(b)
			require.Equal(t, 1, strings.Count(text, p.from), "%s has changed: %q", p.file, p.from)
		}
		to := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if copied, again := replace[p.file]; again {
			to = copied
		}
		if p.from == "" {
			text = p.to // a new file
		} else {
			text = strings.Replace(text, p.from, p.to, 1)
		}
		require.NoError(t, os.WriteFile(to, []byte(text), 0o600))
		replace[p.file] = to
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file, path := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "icache-agent")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	args := []string{"build", "-overlay", file, "-o", path}
	if race {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/icache-go/icache-agent/cmd/icache-agent")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// source is the path of a file of the module.
func source(t *testing.T, file string) string {
	t.Helper()
	return filepath.Join(goTool(t, "list", "-m", "-f", "{{.Dir}}", "github.com/icache-go/icache-agent"), file)
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	require.NoError(t, err)
	return string(bytes.TrimSpace(out))
}

const clockFile = "STEP_CLOCK"

// withClock gives the agents a wall clock that steps. Go asks the kernel
// without the C library, and neither a time namespace nor anything else moves
// CLOCK_REALTIME for one process, so the agent is built with a package time
// whose Now adds what a file says, and whose monotonic clock goes on, as
// when a kernel's clock is set.
func withClock(g *ground) {
	t := g.t
	if os.Getenv("ICACHE_SOAK_EACH") == "" {
		t.Skip("takes a build of the whole standard library, which ICACHE_SOAK_EACH=3s is worth")
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	timeGo := filepath.Join(goTool(t, "env", "GOROOT"), "src", "time", "time.go")
	g.program = build(t, false,
		patch{timeGo, now, now + "\tsec += Step.Load()\n"},
		patch{timeGo, "import (\n", "import (\n\t\"sync/atomic\"\n"},
		patch{timeGo, "\nconst (\n\thasMonotonic ", "\nvar Step atomic.Int64 // seconds\n\nconst (\n\thasMonotonic "},
		patch{source(t, "cmd/icache-agent/clock.go"), "", `package main

import (
	"os"
	"strconv"
	"time"
)

func init() {
	go func() {
		for ; ; time.Sleep(10 * time.Millisecond) {
			b, _ := os.ReadFile(os.Getenv("` + clockFile + `"))
			if s, err := strconv.ParseInt(string(b), 10, 64); err == nil {
				time.Step.Store(s)
			}
		}
	}()
}
`})
	g.clock = filepath.Join(t.TempDir(), "clock")
	g.env = append(g.env, clockFile+"="+g.clock)
}

func (g *ground) stepClock(d time.Duration) {
	g.t.Helper()
	require.NoError(g.t, os.WriteFile(g.clock, strconv.AppendInt(nil, int64(d.Seconds()), 10), 0o600))
}

// slowC makes each write of the log and each flush take longer while a file is there.
const slowC = `#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void slow(useconds_t us)
{
	const char *file = getenv("SLOW_DISK");
	if (file && access(file, F_OK) == 0)
		usleep(us);
}

int fsync(int fd) { slow(200000); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { slow(200000); return syscall(SYS_fdatasync, fd); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { slow(20000); return syscall(SYS_pwrite64, fd, b, n, at); }
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) { return pwrite(fd, b, n, at); }
`

// withSlowDisk puts a library under Postgres that makes its disk slow: 200 ms
// more for a flush, 20 ms more for a write.
func withSlowDisk(g *ground) {
	t := g.t
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed, which makes a library to slow down Postgres' writes")
	}
	dir, err := os.MkdirTemp("", "icache-slow-") // Postgres' user must get at it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	library, slow := filepath.Join(dir, "slow.so"), filepath.Join(dir, "slow")
	gcc := exec.Command("gcc", "-O1", "-shared", "-fPIC", "-o", library, "-x", "c", "-")
	gcc.Stdin = strings.NewReader(slowC)
	out, err := gcc.CombinedOutput()
	require.NoError(t, err, "%s", out)
	binDir := postgresBinDir(t)
	programs, err := os.ReadDir(binDir)
	require.NoError(t, err)
	for _, p := range programs {
		real, preload := filepath.Join(binDir, p.Name()), ""
		if p.Name() == "postgres" {
			preload = "SLOW_DISK='" + slow + "' LD_PRELOAD='" + library + "' "
		}
		script := "#!/bin/sh\n" + preload + "exec '" + real + "' \"$@\"\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, p.Name()), []byte(script), 0o755))
	}
	g.pgConfig.BinDir, g.pgConfig.Durable, g.slow = dir, true, slow
}

func (g *ground) slowDisk(slow bool) {
	g.t.Helper()
	if !slow {
		require.NoError(g.t, os.Remove(g.slow))
		return
	}
	require.NoError(g.t, os.WriteFile(g.slow, nil, 0o644))
}
