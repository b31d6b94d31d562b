package soak_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/internal/soak"
	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// applier is a small agent, with a place for a mistake.
type applier struct {
	mapper *mapping.Mapper
	cache  *icache.Cache
	tokens []string
	bump   func(ctx context.Context, tokens []string) error
}

func (a *applier) Apply(_ context.Context, c listener.Change) (err error) {
	a.tokens, err = a.mapper.AppendTokens(a.tokens, mapping.Change{Table: c.Table, Op: mapping.Op(c.Op), Keys: c.Keys})
	return err
}

func (a *applier) Flush(ctx context.Context) error {
	tokens := a.tokens
	a.tokens = nil
	if len(tokens) == 0 {
		return nil
	}
	return a.bump(ctx, tokens)
}

func (a *applier) Reset(ctx context.Context, _ string) error {
	_, err := a.cache.IncrAll(ctx)
	return err
}

type mistakes struct {
	bump func(c *icache.Cache) func(ctx context.Context, tokens []string) error
	read func(c *icache.Cache) func(ctx context.Context, id int, load func(context.Context) (int64, error)) (int64, error)
}

// run checks for a while, with a mistake built in or without.
func run(t *testing.T, d time.Duration, m mistakes) soak.Report {
	t.Helper()
	ctx := t.Context()
	url := servertest.Postgres(t)
	db, err := pgxpool.New(ctx, url)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, soak.Prepare(ctx, db))
	mapper, err := mapping.Compile([]mapping.Rule{soak.Rule()})
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	migrator, err := migrations.New(conn, migrations.Config{Rules: mapper})
	require.NoError(t, err)
	_, err = migrator.Up(ctx)
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))

	o, err := redis.ParseURL(servertest.Redis(t))
	require.NoError(t, err)
	rdb := redis.NewClient(o)
	defer rdb.Close()
	prefix := servertest.Prefix(t)
	tokenKey := prefix + "t:{token}"
	cache, err := icache.New(rdb, icache.WithPrefix(prefix), icache.WithTokenKey(tokenKey))
	require.NoError(t, err)
	defer cache.Close()

	a := &applier{mapper: mapper, cache: cache, bump: cache.IncrMany}
	if m.bump != nil {
		a.bump = m.bump(cache)
	}
	l, err := listener.New(listener.Config{URL: url, Handler: a})
	require.NoError(t, err)
	lctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(lctx) })
	defer wg.Wait()
	defer stop()
	require.Eventually(t, func() bool { return l.Stats().Leader }, 10*time.Second, 10*time.Millisecond)

	cfg := soak.Config{DB: db, Redis: rdb, Cache: cache, TokenKey: tokenKey, Rows: 10, Writers: 2, Readers: 8, Pause: time.Millisecond, Settle: 5 * time.Second}
	if m.read != nil {
		cfg.Read = m.read(cache)
	}
	check, err := soak.New(cfg)
	require.NoError(t, err)
	rctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	report, err := check.Run(rctx)
	require.NoError(t, err)
	t.Log("\n" + report.String())
	require.NotZero(t, report.Commits)
	require.NotZero(t, report.Reads)
	return report
}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	t.Parallel()
	r := run(t, 3*time.Second, mistakes{})
	require.True(t, r.OK(), "%s", r)
	require.NotZero(t, r.Hits, "a check of misses checks nothing")
	require.Zero(t, r.Unacked)
}

// The checker is good enough if it finds these.
func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]mistakes{
		"the version is read after the data": {read: func(c *icache.Cache) func(context.Context, int, func(context.Context) (int64, error)) (int64, error) {
			return func(ctx context.Context, id int, load func(context.Context) (int64, error)) (int64, error) {
				token, key := fmt.Sprintf("count:{%d}", id+1), fmt.Sprintf("wrong:%d", id)
				v, err := c.GetSum(ctx, token)
				if err != nil {
					return 0, err
				}
				if b, err := c.GetVersioned(ctx, key, v); err == nil {
					var n int64
					_, err := fmt.Sscan(string(b), &n)
					return n, err
				}
				n, err := load(ctx)
				if err != nil {
					return 0, err
				}
				time.Sleep(20 * time.Millisecond) // rendering takes a moment, longer than an increment
				if v, err = c.GetSum(ctx, token); err != nil {
					return 0, err
				}
				return n, c.SetVersioned(ctx, key, v, fmt.Append(nil, n))
			}
		}},
		"acknowledged before the increment": {bump: func(c *icache.Cache) func(context.Context, []string) error {
			return func(ctx context.Context, tokens []string) error {
				go func() {
					time.Sleep(30 * time.Millisecond)
					_ = c.IncrMany(context.WithoutCancel(ctx), tokens)
				}()
				return c.IncrMany(ctx, only(tokens, "counted:"))
			}
		}},
		"an increment is lost now and then": {bump: func(c *icache.Cache) func(context.Context, []string) error {
			n := 0
			return func(ctx context.Context, tokens []string) error {
				if n++; n%20 == 0 {
					tokens = only(tokens, "counted:")
				}
				return c.IncrMany(ctx, tokens)
			}
		}},
		"the reader keeps values for 20 ms": {read: func(c *icache.Cache) func(context.Context, int, func(context.Context) (int64, error)) (int64, error) {
			type entry struct {
				n  int64
				at time.Time
			}
			var mu sync.Mutex
			kept := map[int]entry{}
			return func(ctx context.Context, id int, load func(context.Context) (int64, error)) (int64, error) {
				mu.Lock()
				e, ok := kept[id]
				mu.Unlock()
				if ok && time.Since(e.at) < 20*time.Millisecond {
					return e.n, nil
				}
				n, err := load(ctx)
				mu.Lock()
				kept[id] = entry{n, time.Now()}
				mu.Unlock()
				return n, err
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r soak.Report
			for range 4 { // a mistake that takes a coincidence needs luck on a busy machine
				if r = run(t, 4*time.Second, m); r.Violations > 0 {
					break
				}
			}
			require.NotZero(t, r.Violations, "the mistake was not found: %s", r)
			require.NotEmpty(t, r.Examples)
		})
	}
}

func only(tokens []string, prefix string) []string {
	var kept []string
	for _, t := range tokens {
		if strings.HasPrefix(t, prefix) {
			kept = append(kept, t)
		}
	}
	return kept
}

// On somebody's servers nothing is left behind.
func TestOnServersLeavesNothing(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	o, err := redis.ParseURL(servertest.OwnRedis(t).URL())
	require.NoError(t, err)
	rdb := redis.NewClient(o)
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	report, err := soak.OnServers(ctx, soak.Servers{PostgresURL: url, Redis: rdb})
	require.NoError(t, err)
	require.True(t, report.OK(), "%s", report)
	require.NotZero(t, report.Commits)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var schemas int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'icache%'").Scan(&schemas))
	require.Zero(t, schemas)
	keys, err := rdb.DBSize(t.Context()).Result()
	require.NoError(t, err)
	require.Zero(t, keys)
}
