//go:build unix && !linux

package localserver

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has no counterpart outside Linux: whoever starts servers there
// has to close them on signals.
func dieWithParent(*syscall.SysProcAttr) {}

func children(pid int) []int {
	var pids []int
	for _, row := range processes() {
		if len(row) == 3 && row[1] == strconv.Itoa(pid) {
			if child, err := strconv.Atoi(row[0]); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func zombie(pid int) bool {
	for _, row := range processes() {
		if len(row) == 3 && row[0] == strconv.Itoa(pid) {
			return strings.HasPrefix(row[2], "Z")
		}
	}
	return false
}

// processes lists pid, parent and state of every process.
func processes() [][]string {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,state=").Output()
	if err != nil {
		return nil
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}
