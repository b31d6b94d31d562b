//go:build !unix

package localserver

import (
	"errors"
	"os"
	"syscall"
)

const (
	pauseSignal  = syscall.Signal(0)
	resumeSignal = syscall.Signal(0)
)

type account struct{}

func unprivileged(...string) (*account, error) { return nil, nil }

func (*account) own(string) error { return nil }

func (*account) sysProcAttr() *syscall.SysProcAttr { return nil }

func tryLock(*os.File) error { return errors.ErrUnsupported }

func signalPID(int, syscall.Signal) error { return errors.ErrUnsupported }

func children(int) []int { return nil }

func killPID(int) {}

func anyAlive([]int) bool { return false }
