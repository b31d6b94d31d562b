package localserver

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent asks the kernel to end the server with the thread that started
// it. Go keeps its threads, unless a goroutine ends while locked to one.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// children returns the direct children of a process. Postgres forks them all
// from the one process; Redis forks for a save.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, stat := range stats {
		if fields := statFields(stat); len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			if child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// zombie reports whether a process has ended and is only waiting to be reaped,
// which may take for ever in a container without an init process.
func zombie(pid int) bool {
	fields := statFields(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return len(fields) > 0 && string(fields[0]) == "Z"
}

// statFields returns the fields of a stat file from the state on: state, parent, ….
// The command name before them is in parentheses and may contain anything.
func statFields(path string) [][]byte {
	stat, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
}
