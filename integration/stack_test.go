package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/servertest"
)

// stack is everything that a test of the whole needs, apart from the agent.
type stack struct {
	postgresURL string
	redisURL    string
	prefix      string // of every key, unique to the test
	tokenKey    string // pattern of the tokens' keys
	config      string // path of icache.yaml

	db    *pgxpool.Pool
	rdb   redis.UniversalClient
	cache *icache.Cache
}

// sharedStack is a stack on the servers that all tests share.
func sharedStack(t *testing.T, rules string) *stack {
	t.Helper()
	// Roles belong to the whole server, where other tests take down theirs.
	role := strings.Trim(servertest.Prefix(t), "_") + "_writer"
	return makeStack(t, servertest.Postgres(t), servertest.Redis(t), rules, "writer_role: "+role)
}

// newStack makes a stack on the given servers; options are further settings of
// the config's section redis.
func newStack(t *testing.T, postgresURL, redisURL, rules string, options ...string) *stack {
	t.Helper()
	return makeStack(t, postgresURL, redisURL, rules, "schema: icache", options...)
}

func makeStack(t *testing.T, postgresURL, redisURL, rules, postgresOption string, options ...string) *stack {
	t.Helper()
	prefix := servertest.Prefix(t)
	s := &stack{
		postgresURL: postgresURL,
		redisURL:    redisURL,
		prefix:      prefix + ":",
		tokenKey:    prefix + ":t:{token}",
		config:      filepath.Join(t.TempDir(), "icache.yaml"),
	}
	var err error
	s.db, err = pgxpool.New(t.Context(), postgresURL)
	require.NoError(t, err)
	t.Cleanup(s.db.Close)

	redisOptions, err := config.Redis{URL: config.URL(redisURL)}.Options()
	require.NoError(t, err)
	redisOptions.ContextTimeoutEnabled = true
	s.rdb = redis.NewUniversalClient(redisOptions)
	t.Cleanup(func() { require.NoError(t, s.rdb.Close()) })

	s.cache = s.newCache(t)

	require.NoError(t, os.WriteFile(s.config, fmt.Appendf(nil, `
postgres: {url: %q, %s}
redis:    {%s}
http:     {listen: "127.0.0.1:0"}
log:      {level: debug, format: json}
tables:
%s`, postgresURL, postgresOption, strings.Join(append(options, fmt.Sprintf("url: %q, token_key: %q", redisURL, s.tokenKey)), ", "), rules), 0o600))
	return s
}

// newCache makes a cache like that of the application.
func (s *stack) newCache(t *testing.T, options ...icache.Option) *icache.Cache {
	t.Helper()
	c, err := icache.New(s.rdb, append([]icache.Option{icache.WithPrefix(s.prefix), icache.WithTimeout(5 * time.Second)}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func (s *stack) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := s.db.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

func query[T any](t *testing.T, s *stack, sql string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, s.db.QueryRow(t.Context(), sql, args...).Scan(&v), sql)
	return v
}

// value returns a token's value as it is in Redis, 0 if it is absent.
func (s *stack) value(t *testing.T, token string) uint64 {
	t.Helper()
	values, err := s.cache.Values(t.Context(), token)
	require.NoError(t, err)
	return values[token]
}

// awaitBump waits until a token is past a value and returns the new one.
func (s *stack) awaitBump(t *testing.T, token string, past uint64) uint64 {
	t.Helper()
	var value uint64
	require.Eventually(t, func() bool { value = s.value(t, token); return value > past },
		readyTimeout, time.Millisecond, "token %s is still %d", token, past)
	return value
}

// unread counts the outbox rows that the saved cursor has not passed.
const unread = `SELECT count(*) FROM icache.outbox WHERE NOT pg_visible_in_snapshot(xid, (SELECT snap FROM icache.cursor))`

// awaitDrained waits until the agent has dealt with every change.
func (s *stack) awaitDrained(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int64
		err := s.db.QueryRow(t.Context(), unread).Scan(&n)
		return err == nil && n == 0
	}, 2*time.Minute, 20*time.Millisecond, "the agent does not drain the outbox")
}
