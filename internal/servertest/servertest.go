// Package servertest gives tests a real Postgres and a real Redis.
//
// The servers are those of ICACHE_TEST_POSTGRES_URL and ICACHE_TEST_REDIS_URL.
// Where these are not set, the first test that asks for a server starts one
// from local binaries, which all tests of the process share. Where there are
// none either, the test is skipped, or fails if CI is set.
//
// Tests keep apart by a database of their own ([Postgres]) and by a key prefix
// of their own ([Prefix]). Tests that break servers take [OwnPostgres] and
// [OwnRedis]. Packages that use this package need
//
//	func TestMain(m *testing.M) { servertest.Main(m) }
package servertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/icache-go/icache-agent/internal/localserver"
)

// Environment variables that say which servers tests use.
const (
	PostgresURLEnv    = "ICACHE_TEST_POSTGRES_URL"    // of a superuser
	RedisURLEnv       = "ICACHE_TEST_REDIS_URL"       //
	PostgresBinDirEnv = "ICACHE_TEST_POSTGRES_BINDIR" // of local servers; picks the version where several are installed
)

const startTimeout = 2 * time.Minute

// Main runs the tests of a package, stops the servers that they started, and
// then fails if goroutines are left. The options are those of [goleak.Find].
func Main(m *testing.M, options ...goleak.Option) {
	// An interrupted test run does not get to the end of this function.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-interrupted; ok {
			_ = closeAll() // nobody is left to tell
			os.Exit(130)
		}
	}()

	code := m.Run()
	signal.Stop(interrupted)
	close(interrupted)
	if err := closeAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(append(options, goleak.IgnoreAnyFunction("os/signal.loop"))...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// open holds every server of this process that has to be closed.
var open struct {
	sync.Mutex
	servers map[io.Closer]struct{}
}

// OnExit has [Main] close something together with the servers.
func OnExit(c io.Closer) { opened(c) }

func opened(server io.Closer) {
	open.Lock()
	defer open.Unlock()
	if open.servers == nil {
		open.servers = make(map[io.Closer]struct{})
	}
	open.servers[server] = struct{}{}
}

func closeServer(server io.Closer) error {
	open.Lock()
	delete(open.servers, server)
	open.Unlock()
	return server.Close()
}

func closeAll() error {
	open.Lock()
	defer open.Unlock()
	var errs []error
	for server := range open.servers {
		errs = append(errs, server.Close())
	}
	clear(open.servers)
	return errors.Join(errs...)
}

// sharedServer is a server that all tests of the process use.
type sharedServer struct {
	env   string
	start func(context.Context) (url string, server io.Closer, err error)

	running atomic.Bool
	once    sync.Once
	url     string
	err     error
}

// started reports whether a local server was started.
func (s *sharedServer) started() bool { return s.running.Load() }

func (s *sharedServer) get(tb testing.TB) string {
	tb.Helper()
	s.once.Do(func() {
		if s.url = os.Getenv(s.env); s.url != "" {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		var server io.Closer
		if s.url, server, s.err = s.start(ctx); s.err == nil {
			opened(server)
			s.running.Store(true)
		}
	})
	unavailable(tb, s.err, s.env)
	return s.url
}

// unavailable ends the test if there is an error: a machine without servers
// skips what needs them, but a build must not pass that way.
func unavailable(tb testing.TB, err error, env string) {
	tb.Helper()
	switch {
	case err == nil:
	case !errors.Is(err, localserver.ErrNotInstalled):
		tb.Fatal(err)
	case inCI():
		tb.Fatalf("%v; install it or set %s", err, env)
	default:
		tb.Skipf("%v; install it or set %s", err, env)
	}
}

func inCI() bool {
	ci := strings.ToLower(os.Getenv("CI"))
	return ci != "" && ci != "false" && ci != "0"
}
