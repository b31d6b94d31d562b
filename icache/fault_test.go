package icache

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// lossyProxy passes everything on to a Redis, but cuts the connection instead
// of passing on a reply as long as drop is positive.
type lossyProxy struct {
	net.Listener
	target string
	drop   atomic.Int64
}

func newLossyProxy(t *testing.T, target string) *lossyProxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &lossyProxy{Listener: l, target: target}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

func (p *lossyProxy) serve(client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		if p.drop.Load() > 0 && p.drop.Add(-1) >= 0 {
			return
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

// Redis has incremented but the reply is lost: go-redis tries again, or the
// caller does, and the token moves twice. Nothing depends on how far.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	for name, retries := range map[string]int{"go-redis retries": 3, "the caller retries": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := newLossyProxy(t, server.Addr())
			rdb := redis.NewClient(&redis.Options{Addr: proxy.Addr().String(), MaxRetries: retries, PoolSize: 1})
			t.Cleanup(func() { _ = rdb.Close() })
			c := cacheOn(t, rdb, WithPrefix(servertest.Prefix(t)+":"))
			ctx := t.Context()
			for i := range 20 {
				_, err := Fetch(ctx, c, "k", []string{"a"}, constant(i))
				require.NoError(t, err)
				before, err := c.Values(ctx, "a")
				require.NoError(t, err)
				proxy.drop.Store(1)
				for err = c.Incr(ctx, "a"); err != nil; err = c.Incr(ctx, "a") {
					require.Equal(t, -1, retries, "%v", err)
				}
				proxy.drop.Store(0)
				after, err := c.Values(ctx, "a")
				require.NoError(t, err)
				require.Greater(t, after["a"], before["a"])
				got, err := Fetch(ctx, c, "k", []string{"a"}, constant(-i))
				require.NoError(t, err)
				require.Equal(t, -i, got)
				// A Fetch whose reading or storing fails has its value all the same.
				proxy.drop.Store(2)
				_, err = Fetch(ctx, c, "other", []string{"a"}, constant(i))
				require.NoError(t, err)
				proxy.drop.Store(0)
			}
		})
	}
}

// The server hangs: a Fetch is answered within the timeout, not within that of
// the client.
func TestHangingServer(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	rdb := dial(t, server.URL()) // ReadTimeout is 5 s
	c := cacheOn(t, rdb, WithTimeout(50*time.Millisecond))
	ctx := t.Context()
	require.Eventually(t, func() bool { // with a warm connection
		_, err := Fetch(ctx, c, "k", nil, constant(1))
		require.NoError(t, err)
		return c.Stats().Hits > 0
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, server.Pause())
	start := time.Now()
	for range 20 {
		got, err := Fetch(ctx, c, "k", nil, constant(2))
		require.NoError(t, err)
		require.Equal(t, 2, got)
	}
	require.Less(t, time.Since(start), 3*time.Second)
	require.NoError(t, server.Resume())
	require.Eventually(t, func() bool {
		got, err := Fetch(ctx, c, "k", nil, constant(2))
		require.NoError(t, err)
		return got == 1
	}, 20*time.Second, 20*time.Millisecond, "it asks again")
}

// A snapshot older than the version must not be stored under it. This is what
// happens with real ones, and that Bypass helps.
func TestSnapshotOlderThanVersion(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	setup := connect(t, url)
	for name, tc := range map[string]struct {
		inside func(context.Context) context.Context
		want   string
	}{
		"stored":   {func(ctx context.Context) context.Context { return ctx }, "old"},
		"bypassed": {Bypass, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCache(t)
			ctx := t.Context()
			exec(t, setup, `DROP TABLE IF EXISTS movies; CREATE TABLE movies (title text); INSERT INTO movies VALUES ('old')`)
			reader, writer := connect(t, url), connect(t, url)
			fetch := func(ctx context.Context) string {
				got, err := Fetch(ctx, c, "title", []string{"movies"}, func(ctx context.Context) (title string, err error) {
					err = reader.QueryRow(ctx, `SELECT title FROM movies`).Scan(&title)
					return title, err
				})
				require.NoError(t, err)
				return got
			}
			exec(t, reader, `BEGIN ISOLATION LEVEL REPEATABLE READ`)
			exec(t, reader, `SELECT 1 FROM movies`) // the snapshot
			exec(t, writer, `UPDATE movies SET title = 'new'`)
			require.NoError(t, c.Incr(ctx, "movies"))
			require.Equal(t, "old", fetch(tc.inside(ctx)))
			exec(t, reader, `COMMIT`)
			require.Equal(t, tc.want, fetch(ctx))
		})
	}
	t.Run("rolled back", func(t *testing.T) {
		c, rdb := newCache(t)
		conn := connect(t, url)
		exec(t, conn, `CREATE TABLE IF NOT EXISTS films (title text); BEGIN; INSERT INTO films VALUES ('never was')`)
		_, err := Fetch(Bypass(t.Context()), c, "films", []string{"films"}, func(ctx context.Context) (n int, err error) {
			err = conn.QueryRow(ctx, `SELECT count(*) FROM films`).Scan(&n)
			return n, err
		})
		require.NoError(t, err)
		exec(t, conn, `ROLLBACK`)
		require.Empty(t, rdb.Keys(t.Context(), c.cfg.prefix+"*").Val(), "nothing was stored")
	})
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}
