package agent_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// seed has a reader create tokens.
func (b *bundle) seed(t *testing.T, tokens ...string) {
	t.Helper()
	_, err := b.cache.GetSum(t.Context(), tokens...)
	require.NoError(t, err)
}

func TestForeignReadersSeeBulkChanges(t *testing.T) {
	t.Parallel()
	b := setup(t, options{foreign: true})
	ctx := t.Context()
	b.seed(t, "movie:1", "movie:500", "genre:1", "rated-genre:1", "user:1")
	notToken := b.cacheKey("movie:list")
	require.NoError(t, b.rdb.Set(ctx, notToken, "<ul>", 0).Err())

	b.rises(t, "INSERT INTO movies SELECT i, 1 + i % 2, 'B' FROM generate_series(100, 2100) i", []string{"movies", "movie:1", "movie:500", "genre:1"}, "rated-genre:1", "user:1")
	b.rises(t, "UPDATE movies SET title = title || '!'", []string{"movies", "movie:1", "movie:500", "genre:1", "movie:*"}, "rated-genre:1", "user:1", "movie:9999")
	b.rises(t, "UPDATE movies SET title = 'Ran' WHERE id = 500", []string{"movie:500"}, "movie:1", "rated-genre:1", "movie:*")
	b.rises(t, "TRUNCATE ratings", []string{"movie:1", "movie:500", "rated-genre:1"}, "genre:1", "user:1")
	require.Equal(t, "<ul>", b.rdb.Get(ctx, notToken).Val(), "what is no token stays")
	require.NoError(t, b.stop())
}

func TestReadersOfGroupsNeedNoScan(t *testing.T) {
	t.Parallel()
	b := setup(t, options{})
	b.seed(t, "movie:1")
	b.rises(t, "TRUNCATE movies CASCADE", []string{"movie:*", "movies"}, "movie:1")
	require.NoError(t, b.stop())
}

// scansFail makes SCAN fail for as long as it is set.
type scansFail struct {
	fail   atomic.Bool
	failed atomic.Int64
}

func (*scansFail) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*scansFail) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s *scansFail) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "scan" && s.fail.Load() {
			s.failed.Add(1)
			err := errors.New("scan: out of order")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// A change of a group is behind the agent only when each token of it has been
// bumped.
func TestForeignReadersAreNotLeftBehind(t *testing.T) {
	t.Parallel()
	b := setup(t, options{foreign: true})
	b.seed(t, "movie:1")
	scans := &scansFail{}
	b.rdb.AddHook(scans)
	scans.fail.Store(true)
	before := b.values(t, "movie:1")
	b.exec(t, "TRUNCATE ratings")
	unread := func() (n int) {
		err := b.db.QueryRow(t.Context(),
			"SELECT count(*) FROM icache.outbox WHERE NOT pg_visible_in_snapshot(xid, (SELECT snap FROM icache.cursor))").Scan(&n)
		require.NoError(t, err)
		return n
	}
	require.Eventually(t, func() bool { return scans.failed.Load() >= 3 }, 20*time.Second, 5*time.Millisecond)
	require.Positive(t, unread())
	require.Equal(t, before, b.values(t, "movie:1"))

	scans.fail.Store(false)
	require.Eventually(t, func() bool { return b.values(t, "movie:1")["movie:1"] > before["movie:1"] }, 20*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool { return unread() == 0 }, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, b.stop())
}
