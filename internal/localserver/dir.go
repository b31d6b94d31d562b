package localserver

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// home is the temporary directory of one server. While the process that made
// it lives, it holds a lock in it, so that others can tell it from a leftover.
type home struct {
	path string
	lock *os.File
}

const homePrefix = "icache-server-"

func newHome() (*home, error) {
	parent := tempParent()
	sweep(parent)
	h, err := lockedHome(parent)
	if err != nil {
		return nil, fmt.Errorf("localserver: %w", err)
	}
	return h, nil
}

// lockedHome makes a directory that gets its name only once it is locked, or
// another process could take it for a leftover before that.
func lockedHome(parent string) (_ *home, err error) {
	h := &home{}
	if h.path, err = os.MkdirTemp(parent, "icache-new-*"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(h.path)
		}
	}()
	if h.lock, err = os.Create(h.join("lock")); err != nil {
		return nil, err
	}
	if err := tryLock(h.lock); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	if err := os.Chmod(h.path, 0o711); err != nil { // the server may run as another user
		return nil, err
	}
	named := filepath.Join(parent, homePrefix+rand.Text())
	if err := os.Rename(h.path, named); err != nil {
		return nil, err
	}
	h.path = named
	return h, nil
}

func (h *home) join(name string) string { return filepath.Join(h.path, name) }

// dir makes a directory that belongs to the server's user.
func (h *home) dir(name string, as *account) (string, error) {
	path := h.join(name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("localserver: %w", err)
	}
	return path, as.own(path)
}

func (h *home) remove() error {
	err := os.RemoveAll(h.path)
	h.lock.Close()
	return err
}

// sweep removes the directories of processes that died without doing so.
func sweep(parent string) {
	leftovers, _ := filepath.Glob(filepath.Join(parent, homePrefix+"*"))
	for _, path := range leftovers {
		lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue // just being made, or somebody else's
		}
		if tryLock(lock) == nil {
			os.RemoveAll(path)
		}
		lock.Close()
	}
}

// tempParent is the directory for temporary files, unless another user could
// not enter it (a TMPDIR below /root, for one): then it is /tmp.
func tempParent() string {
	dir := os.TempDir()
	if os.Getuid() != 0 {
		return dir
	}
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil || info.Mode()&0o001 == 0 {
			return "/tmp"
		}
		if path == filepath.Dir(path) {
			return dir
		}
	}
}

// Ports are taken from below the range that systems use for outgoing
// connections. A port from inside it could be taken by a client while the
// server is stopped, and then the server could not be started again.
const (
	portFirst = 17000
	portLast  = 31999
)

func freePort() (int, error) {
	var err error
	for range 100 {
		port := portFirst + mathrand.IntN(portLast-portFirst)
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("localserver: no free port on 127.0.0.1: %w", err)
}
