//go:build !linux

package listener

import (
	"syscall"
	"time"
)

func nap(d time.Duration) { time.Sleep(d) }

func userTimeout(syscall.RawConn, time.Duration) error { return nil }
