package soak

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	statementTimeout = 5 * time.Second
	ackTimeout       = 20 * time.Second // a fault may hold up the agent for so long
	ackPoll          = time.Millisecond
)

// write counts up the rows of one writer until ctx ends.
func (c *Check) write(ctx context.Context, w int) {
	for i := w; ctx.Err() == nil; i = c.next(i, w) {
		c.count(ctx, i)
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

// count commits the next count of a row and waits for its acknowledgement in
// the background.
func (c *Check) count(ctx context.Context, i int) {
	r := &c.rows[i]
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	var n int64
	err := c.cfg.DB.QueryRow(sctx, "UPDATE icache_soak.counts SET n = n + 1 WHERE id = $1 RETURNING n", i+1).Scan(&n)
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
		r.mu.Lock()
		r.acked = max(r.acked, n)
		r.mu.Unlock()
	} else if ctx.Err() == nil {
		c.report.unacked.Add(1)
	}
}

// acknowledged waits for the token that is this commit's alone.
func (c *Check) acknowledged(ctx context.Context, i int, n int64) bool {
	key := strings.ReplaceAll(c.cfg.TokenKey, "{token}", fmt.Sprintf("counted:%d:%d", i+1, n))
	for deadline := time.Now().Add(ackTimeout); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(ackPoll) {
		rctx, cancel := context.WithTimeout(ctx, time.Second)
		there, err := c.cfg.Redis.Exists(rctx, key).Result()
		cancel()
		if err == nil && there == 1 {
			return true
		}
	}
	return false
}

// cleanUp removes the tokens of single commits, which nobody depends on.
func (c *Check) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i := range c.rows {
		keys := make([]string, 0, len(c.rows[i].committed))
		for n := range c.rows[i].committed {
			keys = append(keys, strings.ReplaceAll(c.cfg.TokenKey, "{token}", fmt.Sprintf("counted:%d:%d", i+1, n+1)))
		}
		pipe := c.cfg.Redis.Pipeline()
		for _, k := range keys {
			pipe.Unlink(ctx, k)
		}
		_, _ = pipe.Exec(ctx) // litter, no harm
	}
}
