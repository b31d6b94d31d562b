package integration

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
)

const (
	pgbenchRules = `
  - table: pgbench_accounts
    tokens: ["account:{aid}"]
  - table: pgbench_branches
    tokens: ["branch:{bid}"]
  - table: pgbench_tellers
    tokens: ["teller:{tid}"]
  - table: pgbench_history
    tokens: ["history", "entries:{aid}"]
`
	pgbenchScale   = 4
	pgbenchClients = 8
)

// pgbenchDuration is how long each load lasts: ICACHE_PGBENCH_SECONDS, or short.
func pgbenchDuration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ICACHE_PGBENCH_SECONDS")
	if text == "" {
		return 5 * time.Second
	}
	seconds, err := strconv.Atoi(text)
	require.NoError(t, err, "ICACHE_PGBENCH_SECONDS")
	return time.Duration(seconds) * time.Second
}

// bank is a pgbench database with the triggers installed.
type bank struct {
	*stack
	pgbench string
	started uint64 // by the clock of Redis, in µs: every token is above it
}

func newBank(t *testing.T, postgres *localserver.Postgres, redisURL string, options ...string) *bank {
	t.Helper()
	b := &bank{stack: newStack(t, postgres.URL(), redisURL, pgbenchRules, options...)}
	b.pgbench = filepath.Join(postgres.BinDir(), "pgbench")
	b.run(t, "-i", "-q", "-s", strconv.Itoa(pgbenchScale))
	succeed(t, "migrate", "up", "-c", b.config)
	now, err := b.rdb.Time(t.Context()).Result()
	require.NoError(t, err)
	b.started = uint64(now.UnixMicro())
	return b
}

func (b *bank) run(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := b.command(t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	return stdout.String()
}

func (b *bank) command(ctx context.Context, args ...string) *exec.Cmd {
	// PGBENCH takes a connection string for the name of the database.
	return exec.CommandContext(ctx, b.pgbench, append(args, b.postgresURL)...)
}

// load runs TPC-B in the background. The function returned waits for its end;
// any failed statement of the application is a failure.
func (b *bank) load(t *testing.T, duration time.Duration) (wait func()) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := b.command(t.Context(), "-n", "-c", strconv.Itoa(pgbenchClients), "-j", "2",
		"-T", strconv.Itoa(max(1, int(duration.Seconds()))))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() {
		t.Helper()
		require.NoError(t, <-done, stderr.String())
		for _, line := range regexp.MustCompile(`(?m)^(tps|latency average|number of failed|number of transactions actually).*$`).FindAllString(stdout.String(), -1) {
			t.Log("pgbench: " + line)
		}
	}
}

// expected maps every token that the load must have bumped to the time of the
// last transaction that did, in µs. The history names every row that the load
// touched; a delta of 0 changes no balance and so bumps no token of its row.
func (b *bank) expected(t *testing.T) map[string]uint64 {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `
		WITH h AS (SELECT *, (extract(epoch FROM mtime AT TIME ZONE current_setting('timezone')) * 1e6)::bigint AS at FROM pgbench_history)
		SELECT 'account:' || aid, max(at) FROM h WHERE delta <> 0 GROUP BY aid
		UNION ALL SELECT 'branch:' || bid, max(at) FROM h WHERE delta <> 0 GROUP BY bid
		UNION ALL SELECT 'teller:' || tid, max(at) FROM h WHERE delta <> 0 GROUP BY tid
		UNION ALL SELECT 'entries:' || aid, max(at) FROM h GROUP BY aid
		UNION ALL SELECT 'history', max(at) FROM h HAVING count(*) > 0`)
	require.NoError(t, err)
	type change struct {
		Token string
		At    int64
	}
	changes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[change])
	require.NoError(t, err)
	tokens := make(map[string]uint64, len(changes))
	for _, c := range changes {
		tokens[c.Token] = uint64(c.At)
	}
	return tokens
}

// stored returns every token that is in Redis.
func (b *bank) stored(t *testing.T) map[string]uint64 {
	t.Helper()
	before := len(b.tokenKey) - len("{token}")
	var tokens []string
	keys := b.rdb.Scan(t.Context(), 0, b.tokenKey[:before]+"*", 10_000).Iterator()
	for keys.Next(t.Context()) {
		tokens = append(tokens, keys.Val()[before:])
	}
	require.NoError(t, keys.Err())
	values := make(map[string]uint64, len(tokens))
	for chunk := range slices.Chunk(tokens, 1000) {
		part, err := b.cache.Values(t.Context(), chunk...)
		require.NoError(t, err)
		maps.Copy(values, part)
	}
	return values
}

// verify compares the tokens with the tables: every row that changed has had
// its token bumped, after its last change, and no other row's was.
func (b *bank) verify(t *testing.T) {
	t.Helper()
	// pgbench's own invariant: the load is whole.
	require.True(t, query[bool](t, b.stack, `SELECT
		(SELECT coalesce(sum(delta), 0) FROM pgbench_history) = ALL (ARRAY[
			(SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(tbalance) FROM pgbench_tellers)])`))
	// And so the rows that differ from the start are among those in the history.
	require.Zero(t, query[int64](t, b.stack, `SELECT count(*) FROM pgbench_accounts a
		WHERE abalance <> 0 AND NOT EXISTS (SELECT FROM pgbench_history h WHERE h.aid = a.aid)`))

	b.awaitDrained(t)
	expected, stored := b.expected(t), b.stored(t)
	var missing, early, spurious []string
	var lags []time.Duration
	for token, changed := range expected {
		value, ok := stored[token]
		switch {
		case !ok:
			missing = append(missing, token)
		case value <= b.started || value < changed:
			early = append(early, token)
		default:
			lags = append(lags, time.Duration(value-changed)*time.Microsecond)
		}
	}
	for token := range stored {
		// Groups and the generation stand for many rows.
		if _, ok := expected[token]; !ok && token != icache.Generation && token[len(token)-1] != '*' {
			spurious = append(spurious, token)
		}
	}
	t.Logf("pgbench: %d transactions changed rows behind %d tokens: %d bumped after the last change, %d not bumped, %d bumped too early, %d bumped without a change",
		query[int64](t, b.stack, "SELECT count(*) FROM pgbench_history"), len(expected), len(lags), len(missing), len(early), len(spurious))
	t.Logf("outbox: %d rows not dealt with, %d waiting for rotation",
		query[int64](t, b.stack, unread), query[int64](t, b.stack, "SELECT count(*) FROM icache.outbox"))
	if len(lags) > 0 {
		slices.Sort(lags)
		t.Logf("begin of the last transaction on a row to its token's bump: p50 %s, p99 %s, max %s",
			lags[len(lags)/2], lags[len(lags)*99/100], lags[len(lags)-1])
	}
	require.NotEmpty(t, expected, "the load did nothing")
	require.Empty(t, first(missing), "changed but not bumped")
	require.Empty(t, first(early), "bumped before the last change")
	require.Empty(t, first(spurious), "bumped without a change")
}

// first shortens what a failure prints.
func first(tokens []string) []string {
	slices.Sort(tokens)
	return tokens[:min(len(tokens), 10)]
}

func TestPgbenchEveryTokenOfEveryChangedRow(t *testing.T) {
	t.Parallel()
	postgres := servertest.OwnPostgresWith(t, localserver.PostgresConfig{Durable: true})
	b := newBank(t, postgres, servertest.Redis(t))
	require.Equal(t, "on/on", query[string](t, b.stack, "SELECT current_setting('fsync') || '/' || current_setting('synchronous_commit')"))

	a := startAgent(t, b.config)
	b.load(t, pgbenchDuration(t))()
	b.verify(t)
	b.awaitEmpty(t)
	a.terminate(t)
}

// awaitEmpty waits until the rows that were dealt with have been removed.
func (b *bank) awaitEmpty(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		return query[int64](t, b.stack, "SELECT count(*) FROM icache.outbox") == 0
	}, 3*time.Minute, 100*time.Millisecond, "the outbox is not emptied")
	t.Log("outbox: empty")
}
