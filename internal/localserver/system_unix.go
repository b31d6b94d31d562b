//go:build unix

package localserver

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

const (
	pauseSignal  = syscall.SIGSTOP
	resumeSignal = syscall.SIGCONT
)

// account is the user that a server runs as; nil is the user of this process.
type account struct {
	name     string
	uid, gid int
}

// unprivileged returns nil unless this process is root; then the first of the
// named users that exists.
func unprivileged(names ...string) (*account, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if errors.Join(err1, err2) == nil && uid != 0 {
			return &account{name: name, uid: uid, gid: gid}, nil
		}
	}
	return nil, fmt.Errorf("localserver: a server does not run as root, and none of the users %q exists", names)
}

func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("localserver: %w", err)
	}
	return nil
}

func (a *account) sysProcAttr() *syscall.SysProcAttr {
	// A group of its own keeps Ctrl-C in a terminal from reaching the server
	// before the parent has finished with it.
	attr := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(attr)
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

func tryLock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func signalPID(pid int, sig syscall.Signal) error { return syscall.Kill(pid, sig) }

func killPID(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }

func anyAlive(pids []int) bool {
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil && !zombie(pid) {
			return true
		}
	}
	return false
}
