package agent_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/listener"
)

const (
	guardLease = time.Second
	guardGrace = 2 * guardLease
	agentEnv   = "ICACHE_TEST_AGENT"
)

// The test binary is also the agent, in a process of its own that can be
// stopped and killed.
func init() {
	if os.Getenv(agentEnv) == "" {
		return
	}
	o, err := redis.ParseURL(os.Getenv("AGENT_REDIS"))
	if err == nil {
		o.ContextTimeoutEnabled, o.MaxRetries, o.DialTimeout, o.ReadTimeout = true, 1, time.Second, time.Second
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		var a *agent.Agent
		a, err = agent.New(agent.Config{
			Postgres: listener.Config{URL: os.Getenv("AGENT_POSTGRES")}, Redis: redis.NewClient(o), Rules: rules(), Lease: guardLease,
			Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
		if err == nil {
			err = a.Run(ctx)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// wire forwards connections until it is cut: then nothing passes, and nobody is told.
type wire struct {
	net.Listener
	mu  sync.Mutex
	cut bool
	wg  sync.WaitGroup
	all []net.Conn
}

func newWire(t *testing.T, server string) (w *wire, through string) {
	u, err := url.Parse(server)
	require.NoError(t, err)
	target := u.Host
	w = &wire{}
	w.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.wg.Go(func() {
		for {
			in, err := w.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			w.mu.Lock()
			w.all = append(w.all, in, out)
			w.mu.Unlock()
			w.wg.Go(func() { w.copy(out, in) })
			w.wg.Go(func() { w.copy(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = w.Close()
		w.mu.Lock()
		for _, c := range w.all {
			_ = c.Close()
		}
		w.mu.Unlock()
		w.wg.Wait()
	})
	u.Host = w.Addr().String()
	return w, u.String()
}

func (w *wire) copy(dst, src net.Conn) {
	defer dst.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !w.isCut() {
			_, _ = dst.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (w *wire) isCut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut = cut; !cut { // what passed through while it was cut is in shreds
		for _, c := range w.all {
			_ = c.Close()
		}
		w.all = nil
	}
}

// guarded is an agent in a process of its own, a writer that counts up, and
// two readers, of which one has the guard.
type guarded struct {
	cmd             *exec.Cmd
	redis           *localserver.Redis
	toRedis, toBase *wire
}

func startGuarded(t *testing.T) (g *guarded, db, rdbURL string) {
	g = &guarded{redis: servertest.OwnRedis(t)}
	db = servertest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), db)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), schema+"UPDATE movies SET title = '0'")
	require.NoError(t, err)
	(&bundle{db: conn}).migrate(t, rules())
	var viaBase, viaRedis string
	g.toBase, viaBase = newWire(t, db)
	g.toRedis, viaRedis = newWire(t, g.redis.URL())
	exe, err := os.Executable()
	require.NoError(t, err)
	g.cmd = exec.Command(exe)
	g.cmd.Env = append(os.Environ(), agentEnv+"=1", "AGENT_POSTGRES="+viaBase, "AGENT_REDIS="+viaRedis)
	g.cmd.Stderr = testLog{t}
	require.NoError(t, g.cmd.Start())
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
	})
	return g, db, g.redis.URL()
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) { l.t.Logf("%s", b); return len(b), nil }

// reader fetches again and again, and keeps the longest time that had passed,
// when a read began, since the commit that outdated what it served.
type reader struct {
	cache *icache.Cache
	mu    sync.Mutex
	worst time.Duration
	hits  int
}

func (r *reader) result() (time.Duration, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.worst, r.hits
}

func TestGuardBoundsStaleness(t *testing.T) {
	t.Parallel()
	const fault = guardLease + guardGrace + time.Second
	for name, c := range map[string]struct {
		strike func(t *testing.T, g *guarded)
		heal   func(t *testing.T, g *guarded) // nil: the agent is gone for good
		fresh  bool                           // so is a cache without the guard
	}{
		"agent killed": {strike: func(t *testing.T, g *guarded) { require.NoError(t, g.cmd.Process.Kill()) }},
		"agent stopped": {
			strike: func(t *testing.T, g *guarded) { require.NoError(t, g.cmd.Process.Signal(syscall.SIGSTOP)) },
			heal:   func(t *testing.T, g *guarded) { require.NoError(t, g.cmd.Process.Signal(syscall.SIGCONT)) },
		},
		"cut off from postgres": {
			strike: func(_ *testing.T, g *guarded) { g.toBase.set(true) },
			heal:   func(_ *testing.T, g *guarded) { g.toBase.set(false) },
		},
		"cut off from redis": {
			strike: func(_ *testing.T, g *guarded) { g.toRedis.set(true) },
			heal:   func(_ *testing.T, g *guarded) { g.toRedis.set(false) },
		},
		"redis restarted": {
			strike: func(t *testing.T, g *guarded) { require.NoError(t, g.redis.Kill()) },
			heal:   func(t *testing.T, g *guarded) { require.NoError(t, g.redis.Start(t.Context())) },
			fresh:  true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, dbURL, redisURL := startGuarded(t)
			o, err := redis.ParseURL(redisURL)
			require.NoError(t, err)
			rdb := redis.NewClient(o)
			t.Cleanup(func() { _ = rdb.Close() })
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()

			var mu sync.Mutex
			committed := []time.Time{time.Now()} // by value, when the commit had been acknowledged
			writer, err := pgx.Connect(ctx, dbURL)
			require.NoError(t, err)
			wg.Go(func() {
				defer writer.Close(context.Background())
				for n := 1; ctx.Err() == nil; n++ {
					if _, err := writer.Exec(context.Background(), "UPDATE movies SET title = $1 WHERE id = 1", strconv.Itoa(n)); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					committed = append(committed, time.Now())
					mu.Unlock()
					time.Sleep(20 * time.Millisecond)
				}
			})
			read := func(opts ...icache.Option) *reader {
				r := &reader{}
				r.cache, err = icache.New(rdb, opts...)
				require.NoError(t, err)
				conn, err := pgx.Connect(ctx, dbURL)
				require.NoError(t, err)
				wg.Go(func() {
					defer conn.Close(context.Background())
					defer r.cache.Close()
					for ctx.Err() == nil {
						hit := true
						began := time.Now()
						title, err := icache.Fetch(context.Background(), r.cache, "title", []string{"movie:1"}, func(ctx context.Context) (title string, err error) {
							hit = false
							return title, conn.QueryRow(ctx, "SELECT title FROM movies WHERE id = 1").Scan(&title)
						})
						if err != nil {
							t.Error(err)
							return
						}
						n, err := strconv.Atoi(title)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						var late time.Duration
						if n+1 < len(committed) {
							late = began.Sub(committed[n+1])
						}
						mu.Unlock()
						r.mu.Lock()
						r.worst = max(r.worst, late)
						if hit {
							r.hits++
						}
						r.mu.Unlock()
						time.Sleep(2 * time.Millisecond)
					}
				})
				return r
			}
			with := read(icache.WithGuard(), icache.WithPrefix("icache:"))
			lenient := read(icache.WithGuard(icache.GuardServe(guardGrace)), icache.WithPrefix("icache:"))
			without := read(icache.WithPrefix("icache:"))
			served := func(n int) {
				_, before := with.result()
				require.Eventually(t, func() bool { _, now := with.result(); return now >= before+n }, 30*time.Second, 5*time.Millisecond,
					"the guarded cache serves fragments")
			}
			served(50)
			c.strike(t, g)
			time.Sleep(fault)
			if c.heal != nil {
				c.heal(t, g)
				served(50)
			}
			cancel()
			wg.Wait()
			guarded, hits := with.result()
			graced, _ := lenient.result()
			unguarded, _ := without.result()
			t.Logf("longest staleness: with the guard %s, with its grace %s, without %s; %d hits", guarded, graced, unguarded, hits)
			require.LessOrEqual(t, guarded, guardLease)
			require.LessOrEqual(t, graced, guardLease+guardGrace)
			if !c.fresh {
				require.Greater(t, graced, guardLease, "the grace is used, or this test proves nothing about it")
				require.Greater(t, unguarded, guardLease+guardGrace, "without the guard the fault is seen, or this test proves nothing")
			}
		})
	}
}

var _ io.Writer = testLog{}
