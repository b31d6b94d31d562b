package listener

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nap sleeps for less than a millisecond. The runtime's timers cannot: an idle
// process waits in epoll, whose timeout counts milliseconds, so that
// time.Sleep(500µs) takes more than twice that (go.dev/issue/44343).
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // an interrupted nap is only shorter
}

// userTimeout has the kernel give up a connection whose data is not acknowledged.
func userTimeout(raw syscall.RawConn, d time.Duration) error {
	var err error
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
