// Package localserver starts and controls real Postgres and Redis servers from
// the binaries installed on this machine, for tests and for the demo.
//
// Every server lives in a temporary directory of its own, listens on a free
// port of 127.0.0.1 only, and can be stopped, killed, paused, resumed and
// started again on the same port and data. As root, servers run as an
// unprivileged user, because Postgres refuses anything else.
//
// Close removes everything. Should the parent die without it, Linux ends the
// servers (PR_SET_PDEATHSIG) and the next server started sweeps the directories
// that were left.
//
// On Windows the package compiles, but Pause and Resume return
// [errors.ErrUnsupported].
package localserver

import "errors"

// ErrNotInstalled is returned, wrapped, when a server's binaries are not on this machine.
var ErrNotInstalled = errors.New("not installed")
