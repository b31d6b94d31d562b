package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

func TestMain(m *testing.M) { servertest.Main(m) }

const schema = `
CREATE TABLE genres (id int PRIMARY KEY, name text);
CREATE TABLE movies (id int PRIMARY KEY, genre_id int REFERENCES genres, title text);
CREATE TABLE ratings (movie_id int REFERENCES movies, user_id int, stars int, PRIMARY KEY (movie_id, user_id));
INSERT INTO genres VALUES (1, 'crime'), (2, 'horror');
INSERT INTO movies VALUES (1, 1, 'Heat'), (2, 2, 'Alien');`

func rules() []mapping.Rule {
	table := func(name string) mapping.TableName { return mapping.TableName{Schema: "public", Name: name} }
	return []mapping.Rule{
		{Table: table("movies"), Tokens: []string{"movies", "movie:{id}", "genre:{genre_id}"}},
		{Table: table("ratings"), Tokens: []string{"movie:{movie_id}", "rated-genre:{movie_id->movies.genre_id}"}},
	}
}

// bundle is an agent on a database and a key prefix of its own.
type bundle struct {
	agent *agent.Agent
	cache *icache.Cache
	db    *pgx.Conn
	rdb   *redis.Client
	http  string
	stop  func() error

	url          string
	options      options
	cacheOptions []icache.Option
	prefix       string
}

type options struct {
	redisURL string
	logger   *slog.Logger
	rules    []mapping.Rule // those of the agent; the triggers are always made for rules()
	load     func(context.Context) (*agent.Loaded, error)
	discover bool
	foreign  bool
	sinks    []cdn.Sink

	postgresURL string // a server of the test's own
	agentURL    string // the same for the agent, otherwise written
}

func setup(t *testing.T, opt options) *bundle {
	t.Helper()
	ctx := t.Context()
	url := opt.postgresURL
	if url == "" {
		url = servertest.Postgres(t)
	}
	db, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	_, err = db.Exec(ctx, schema)
	require.NoError(t, err)
	b := &bundle{db: db, url: url, options: opt}
	if opt.agentURL != "" {
		b.url = opt.agentURL
	}
	b.migrate(t, rules())

	prefix := servertest.Prefix(t)
	if opt.redisURL == "" {
		opt.redisURL = servertest.Redis(t)
	}
	ro, err := redis.ParseURL(opt.redisURL)
	require.NoError(t, err)
	b.rdb = redis.NewClient(ro)
	t.Cleanup(func() { _ = b.rdb.Close() })
	b.prefix = prefix
	b.cacheOptions = []icache.Option{icache.WithPrefix(prefix), icache.WithTokenKey(prefix + "t:{token}")}
	b.cache, err = icache.New(b.rdb, b.cacheOptions...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.cache.Close() })
	if b.options.rules == nil {
		b.options.rules = rules()
	}
	b.start(t, b.options.rules)
	return b
}

func (b *bundle) migrate(t *testing.T, rules []mapping.Rule) {
	t.Helper()
	m, err := mapping.Compile(rules)
	require.NoError(t, err)
	migrator, err := migrations.New(b.db, migrations.Config{Rules: m})
	require.NoError(t, err)
	_, err = migrator.Up(t.Context())
	require.NoError(t, err)
}

// start starts an agent, which is waited for until it leads.
func (b *bundle) start(t *testing.T, rules []mapping.Rule) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a, err := agent.New(agent.Config{
		Postgres: listener.Config{URL: b.url}, Redis: b.rdb, CacheOptions: b.cacheOptions, Rules: rules,
		Load: b.options.load, Discover: b.options.discover, ForeignReaders: b.options.foreign, Sinks: b.options.sinks,
		HTTPListener: ln, Version: "test", Logger: b.options.logger,
	})
	require.NoError(t, err)
	run, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(run) }()
	b.agent, b.http = a, "http://"+ln.Addr().String()
	stopped := false
	b.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			panic("the agent did not stop")
		}
	}
	t.Cleanup(func() { _ = b.stop() })
	require.Eventually(t, func() bool { return a.Status().Ready && a.Status().Postgres.Leader }, 20*time.Second, 10*time.Millisecond)
}

func (b *bundle) cacheKey(token string) string { return b.prefix + "t:" + token }

func (b *bundle) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := b.db.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func (b *bundle) values(t *testing.T, tokens ...string) map[string]uint64 {
	t.Helper()
	v, err := b.cache.Values(t.Context(), tokens...)
	require.NoError(t, err)
	return v
}

// rises requires that sql makes each of the tokens greater, and none of the others.
func (b *bundle) rises(t *testing.T, sql string, tokens []string, others ...string) {
	t.Helper()
	all := append(append([]string(nil), tokens...), others...)
	before := b.values(t, all...)
	b.exec(t, sql)
	require.Eventually(t, func() bool {
		now := b.values(t, tokens...)
		for _, token := range tokens {
			if now[token] <= before[token] {
				return false
			}
		}
		return true
	}, 10*time.Second, 5*time.Millisecond, "after %s: %v", sql, tokens)
	now := b.values(t, others...)
	for _, token := range others {
		require.Equal(t, before[token], now[token], "%s must not bump %s", sql, token)
	}
}

func TestChangesBumpTheirTokens(t *testing.T) {
	t.Parallel()
	b := setup(t, options{})
	b.rises(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1", []string{"movies", "movie:1", "genre:1"}, "movie:2", "genre:2")
	b.rises(t, "UPDATE movies SET genre_id = 2 WHERE id = 1", []string{"movie:1", "genre:1", "genre:2"}, "movie:2")
	b.rises(t, "INSERT INTO ratings VALUES (2, 7, 5)", []string{"movie:2", "rated-genre:2"}, "movie:1", "rated-genre:1", "rated-genre:*")
	b.rises(t, "TRUNCATE ratings", []string{"movie:*", "rated-genre:*"}, "movies", "genre:*")
	require.NoError(t, b.stop())
}

func TestAFragmentIsRenderedAgainAfterAChange(t *testing.T) {
	t.Parallel()
	b := setup(t, options{})
	title := func() string {
		got, err := icache.Fetch(t.Context(), b.cache, "title", []string{"movie:1"}, func(ctx context.Context) (string, error) {
			conn, err := pgx.ConnectConfig(ctx, b.db.Config())
			if err != nil {
				return "", err
			}
			defer conn.Close(ctx)
			var s string
			err = conn.QueryRow(ctx, "SELECT title FROM movies WHERE id = 1").Scan(&s)
			return s, err
		})
		require.NoError(t, err)
		return got
	}
	_ = title()
	b.exec(t, "UPDATE movies SET title = 'Collateral' WHERE id = 1")
	require.Eventually(t, func() bool { return title() == "Collateral" }, 10*time.Second, 5*time.Millisecond)
}

func TestALostReferenceFallsBackToTheGroup(t *testing.T) {
	t.Parallel()
	b := setup(t, options{})
	// By the time the change is applied, the film has lost its genre's row for good.
	b.exec(t, "ALTER TABLE ratings DROP CONSTRAINT ratings_movie_id_fkey")
	b.rises(t, "INSERT INTO ratings VALUES (99, 7, 5)", []string{"movie:99", "rated-genre:*"}, "rated-genre:1")
}

func TestRedisRestartRepeatsRecentBumps(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	b := setup(t, options{redisURL: server.URL()})
	b.rises(t, "UPDATE movies SET title = 'a' WHERE id = 1", []string{"movie:1"})
	bumped := b.values(t, "movie:1")["movie:1"]
	require.NoError(t, server.Kill())
	require.NoError(t, server.Start(t.Context())) // empty: it keeps nothing on disk
	require.Eventually(t, func() bool {
		v, err := b.cache.Values(t.Context(), "movie:1")
		return err == nil && v["movie:1"] > bumped
	}, 20*time.Second, 20*time.Millisecond)
}

func TestChangesWaitForRedis(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	b := setup(t, options{redisURL: server.URL()})
	require.NoError(t, server.Stop())
	b.exec(t, "UPDATE movies SET title = 'b' WHERE id = 2")
	require.Eventually(t, func() bool { return !b.agent.Status().Ready }, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, server.Start(t.Context()))
	require.Eventually(t, func() bool {
		v, err := b.cache.Values(t.Context(), "movie:2")
		return err == nil && v["movie:2"] > 0
	}, 20*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { return b.agent.Status().Ready }, 20*time.Second, 20*time.Millisecond)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, options{})
	get := func(path string) (int, string) {
		resp, err := http.Get(b.http + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		code, body := get(path)
		require.Equal(t, 200, code, path)
		require.Equal(t, "ok\n", body)
	}
	b.rises(t, "UPDATE movies SET title = 'c' WHERE id = 1", []string{"movie:1"})
	code, body := get("/status")
	require.Equal(t, 200, code)
	var s agent.Status
	require.NoError(t, json.Unmarshal([]byte(body), &s))
	require.True(t, s.Ready)
	require.Equal(t, "test", s.Version)
	require.Len(t, s.Tables, 2)
	_, metrics := get("/metrics")
	require.Contains(t, metrics, `icache_changes_total{op="update",table="public.movies"} 1`)
	require.Contains(t, metrics, "icache_listener_leader 1")
	code, page := get("/")
	require.Equal(t, 200, code)
	require.Contains(t, page, "public.movies")
	code, _ = get("/nope")
	require.Equal(t, 404, code)
	var text strings.Builder
	require.NoError(t, s.WriteText(&text))
	require.Contains(t, text.String(), "public.ratings")
}

func TestEventsAreStreamed(t *testing.T) {
	t.Parallel()
	b := setup(t, options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.http+"/events?recent=0", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	b.exec(t, "UPDATE movies SET title = 'd' WHERE id = 2")
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e agent.Event
		require.NoError(t, json.Unmarshal([]byte(data), &e))
		require.Equal(t, "change", e.Kind)
		require.Equal(t, "public.movies", e.Table)
		require.Equal(t, "update", e.Op)
		require.ElementsMatch(t, []string{"movies", "movie:2", "genre:2"}, e.Tokens)
		require.JSONEq(t, `[{"id": "2", "genre_id": "2"}]`, string(e.Keys))
		// An open stream must not keep the agent from stopping.
		require.NoError(t, b.stop())
		return
	}
	t.Fatal("the stream ended without an event:", lines.Err())
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	a, err := agent.New(agent.Config{
		Postgres: listener.Config{URL: "postgres://127.0.0.1:1/none"}, Redis: rdb, Rules: rules(), HTTPListen: ln.Addr().String(),
	})
	require.NoError(t, err)
	require.ErrorContains(t, a.Run(t.Context()), "http.listen")
}
