package soak

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
)

const (
	statementTimeout = 5 * time.Second
	ackPoll          = time.Millisecond
	slowEvery        = 8 // every so many-th write is a transaction that stays open
	slowMax          = 30 * time.Millisecond
)

// write counts up the rows of one writer until ctx ends.
func (c *Check) write(ctx context.Context, w int) {
	for i := w; ctx.Err() == nil; i = c.next(i, w) {
		c.count(ctx, w, i)
		select {
		case <-ctx.Done():
		case <-time.After(c.cfg.Pause):
		}
	}
}

// next is the row of the same writer that comes after i.
func (c *Check) next(i, w int) int {
	if i += c.cfg.Writers; i < len(c.rows) {
		return i
	}
	return w
}

// count commits the next count of a row and waits for its acknowledgement.
func (c *Check) count(ctx context.Context, w, i int) {
	r := &c.rows[i]
	before, _ := c.generation.Load().(string)
	n, err := c.commit(context.WithoutCancel(ctx), i)
	now := time.Now()
	if err != nil {
		// It may have been committed all the same: nothing is known of it.
		c.report.writeErrors.Add(1)
		return
	}
	c.report.commits.Add(1)
	r.mu.Lock()
	for int64(len(r.committed)) < n {
		// Counts whose reply was lost were committed at some time before.
		r.committed = append(r.committed, now)
	}
	r.mu.Unlock()
	if c.acknowledged(ctx, i, n) {
		c.report.ack(time.Since(now))
		c.caught[w].Store(int64(now.Sub(c.start)))
	} else if ctx.Err() == nil {
		if now, _ := c.generation.Load().(string); less(before, now) {
			c.report.covered.Add(1)
		} else {
			c.report.unacked.Add(1)
		}
	}
}

const countSQL = "UPDATE icache_soak.counts SET n = n + 1 WHERE id = $1 RETURNING n"

func (c *Check) commit(ctx context.Context, i int) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if rand.IntN(slowEvery) != 0 {
		return n, c.cfg.DB.QueryRow(ctx, countSQL, i+1).Scan(&n)
	}
	tx, err := c.cfg.DB.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after Commit
	if err := tx.QueryRow(ctx, countSQL, i+1).Scan(&n); err != nil {
		return 0, err
	}
	time.Sleep(rand.N(slowMax))
	return n, tx.Commit(ctx)
}

// acknowledged waits until every server shows that a commit is acknowledged,
// and notes it.
func (c *Check) acknowledged(ctx context.Context, i int, n int64) bool {
	generations := make([]string, len(c.servers)) // at some time after the commit
	for deadline := time.Now().Add(c.cfg.AckTimeout); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(ackPoll) {
		epoch, all := c.epoch.Load(), true
		for s := range c.servers {
			all = all && c.shows(ctx, s, &generations[s], i, n)
		}
		if all && c.note(i, n, epoch) {
			// Nobody needs it any longer, and a reset would bump it with all others.
			_ = c.cfg.Redis.Unlink(ctx, c.key(commitToken(i, n))).Err()
			return true
		}
	}
	return false
}

// note notes an acknowledgement, unless Redis may have forgotten it meanwhile.
func (c *Check) note(i int, n, epoch int64) bool {
	c.forgetting.RLock()
	defer c.forgetting.RUnlock()
	if c.epoch.Load() != epoch {
		return false
	}
	r := &c.rows[i]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked = max(r.acked, n)
	return true
}

func (c *Check) shows(ctx context.Context, server int, generation *string, i int, n int64) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pipe := c.servers[server].Pipeline()
	commit := pipe.Exists(ctx, c.key(commitToken(i, n)))
	row := pipe.Exists(ctx, c.key(rowToken(i)))
	now := pipe.Get(ctx, c.key(icache.Generation))
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return false
	}
	if now.Err() == nil {
		*generation = cmp.Or(*generation, now.Val())
		c.generation.Store(now.Val())
	}
	absent := row.Val() == 0 && server == 0 // a replica may not have anything yet
	return commit.Val() == 1 || absent || now.Err() == nil && less(*generation, now.Val())
}

// less compares decimal numbers without leading zeros.
func less(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

func (c *Check) key(token string) string { return strings.ReplaceAll(c.cfg.TokenKey, "{token}", token) }

// cleanUp removes the tokens of single commits that are left, or back.
func (c *Check) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i := range c.rows {
		pipe := c.cfg.Redis.Pipeline()
		for n := range c.rows[i].committed {
			pipe.Unlink(ctx, c.key(commitToken(i, int64(n+1))))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return // litter, no harm
		}
	}
}
