package localserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second // for a machine under load; a healthy one needs less than two
	stopTimeout  = 30 * time.Second
	pollEvery    = 10 * time.Millisecond
	tailBytes    = 4 << 10
)

// process is a server process that can be started again and again.
type process struct {
	name    string // "postgres", "redis-server"
	path    string
	args    []string
	as      *account
	logPath string
	ready   func(ctx context.Context) error // nil once the server answers

	mu   sync.Mutex // guards cmd and done, and makes the operations below exclude each other
	cmd  *exec.Cmd  // nil while not running
	done chan struct{}
}

// command prepares a command with an environment that does not depend on the
// caller's: PGDATA, PGPORT or a locale must not leak into the server.
func command(path string, as *account, home string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "TZ=UTC"}
	if root := os.Getenv("SystemRoot"); root != "" {
		cmd.Env = append(cmd.Env, "SystemRoot="+root)
	}
	cmd.Dir = home
	cmd.SysProcAttr = as.sysProcAttr()
	return cmd
}

func (p *process) start(ctx context.Context, dir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("localserver: %s is already running", p.name)
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("localserver: %w", err)
	}
	defer log.Close()

	cmd := command(p.path, p.as, dir, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("localserver: start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}()
	p.cmd, p.done = cmd, done

	if err := p.awaitReady(ctx); err != nil {
		_ = p.kill()
		return err
	}
	return nil
}

func (p *process) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("localserver: %s ended while starting%s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("localserver: %s does not answer: %w (%w)%s", p.name, err, ctx.Err(), p.tail())
		case <-time.After(pollEvery):
		}
	}
}

// running must be called with mu held.
func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop sends a signal and waits for the end; past the time limit it kills.
func (p *process) stop(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return nil
	}
	if err := p.signalAll(resumeSignal, true); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err // a paused process would not see the signal
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return p.kill() // it has just ended, or this system knows no such signal
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("localserver: %s did not stop within %s and was killed%s", p.name, stopTimeout, p.tail()), p.kill())
	}
}

// Kill ends the server and all of its processes at once with SIGKILL.
func (p *process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kill()
}

// kill must be called with mu held.
func (p *process) kill() error {
	if !p.running() {
		return nil
	}
	// The parent is stopped first, or it could start another child after the list was taken.
	_ = p.cmd.Process.Signal(pauseSignal)
	pids := children(p.cmd.Process.Pid)
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("localserver: kill %s: %w", p.name, err)
	}
	for _, pid := range pids {
		killPID(pid)
	}
	<-p.done
	// A child that still holds the shared memory would keep the server from starting again.
	for deadline := time.Now().Add(stopTimeout); anyAlive(pids); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return fmt.Errorf("localserver: children of %s outlive SIGKILL", p.name)
		}
	}
	return nil
}

// Pause stops the server and all of its processes (SIGSTOP): connections stay
// open and nobody answers. Stop, Kill and Close work on a paused server.
func (p *process) Pause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("localserver: pause: %s is not running", p.name)
	}
	return p.signalAll(pauseSignal, false)
}

// Resume lets a paused server go on (SIGCONT).
func (p *process) Resume() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("localserver: resume: %s is not running", p.name)
	}
	return p.signalAll(resumeSignal, true)
}

// signalAll signals the process and its children; Postgres puts each of its
// children into a session of its own, so that a process group reaches none of
// them. mu must be held.
func (p *process) signalAll(sig syscall.Signal, childrenFirst bool) error {
	pid := p.cmd.Process.Pid
	if !childrenFirst {
		if err := signalPID(pid, sig); err != nil {
			return fmt.Errorf("localserver: signal %s: %w", p.name, err)
		}
	}
	for _, child := range children(pid) {
		_ = signalPID(child, sig) // one that is gone needs no signal
	}
	if childrenFirst {
		if err := signalPID(pid, sig); err != nil {
			return fmt.Errorf("localserver: signal %s: %w", p.name, err)
		}
	}
	return nil
}

// PID returns the process id of the server, 0 while it is not running.
func (p *process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Log returns the last lines that the server wrote.
func (p *process) Log() string {
	f, err := os.Open(p.logPath)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = f.Seek(-tailBytes, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	if len(text) == tailBytes { // most likely begins in mid-line
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return strings.TrimSpace(string(text))
}

func (p *process) tail() string {
	if log := p.Log(); log != "" {
		return "; its log ends with:\n" + log
	}
	return "; its log is empty"
}
