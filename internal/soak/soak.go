// Package soak checks the promises of icache on running servers: writers count
// rows up, readers fetch the counts through the library and the template tag,
// and every value that is read is held against what had been acknowledged when
// the read began.
//
//	stale read      the value is older than what was committed when the read
//	                began. Normal for the moment between commit and increment;
//	                how long it lasts is recorded.
//	violation       the value is older than what had been *acknowledged* when
//	                the read began. There must be none, whatever fails.
//	lost            after everything has come to rest a read is still stale.
//	                There must be none.
//
// A commit counts as acknowledged when Redis shows one of these:
//
//   - The token that is its alone (the rule has a template with the count in
//     it). The agent sends the tokens of one change in order, so the token of
//     the row has been incremented then. Both are in one slot of a Cluster.
//   - A generation token that is greater than it was at some time after the
//     commit: everything has been outdated since.
//   - No token of the row: whoever creates it gives it a value that it never
//     had, which is what a Redis without memory is left with.
//
// Some writes are transactions that stay open for a while, so that their ids
// become visible late.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/mapping"
)

// Table is the table that is counted up. [Prepare] creates it.
var Table = mapping.TableName{Schema: "icache_soak", Name: "counts"}

// Rule is what the agent must map [Table] with.
func Rule() mapping.Rule {
	return mapping.Rule{Table: Table, Tokens: []string{rowTemplate, commitTemplate}}
}

// The inner braces stay: they have a Cluster keep both tokens in one slot.
const (
	rowTemplate    = "count:{{{id}}}"
	commitTemplate = "counted:{{{id}}}:{n}"
)

func rowToken(i int) string             { return fmt.Sprintf("count:{%d}", i+1) }
func commitToken(i int, n int64) string { return fmt.Sprintf("counted:{%d}:%d", i+1, n) }

// Config says how to check.
type Config struct {
	DB    *pgxpool.Pool
	Redis redis.UniversalClient
	// Cache that readers use. TokenKey is its pattern for tokens.
	Cache    *icache.Cache
	TokenKey string
	// Also are servers that must show an acknowledgement too: the replicas, with
	// an agent that waits for them.
	Also []redis.Cmdable

	// Rows defaults to 50, Writers to 4, Readers to 8.
	Rows, Writers, Readers int
	// Pause between two writes of a writer. Defaults to 5 ms.
	Pause time.Duration
	// AckTimeout is how long a writer waits for an acknowledgement before it
	// goes on. Defaults to 20 seconds: a fault may hold up the agent for so long.
	AckTimeout time.Duration
	// Settle bounds how long everything may take to come to rest at the end.
	// Defaults to 30 seconds.
	Settle time.Duration
	// Read replaces how a count is fetched, to see whether the check finds a
	// wrong way to do it. Defaults to icache.Fetch and the template tag in turn.
	Read func(ctx context.Context, id int, load func(context.Context) (int64, error)) (int64, error)
}

// Check is one run.
type Check struct {
	cfg     Config
	servers []redis.Cmdable
	rows    []row
	report  collector
	start   time.Time
	caught  []atomic.Int64 // per writer: when its last acknowledged commit was committed, since start

	generation atomic.Value // its token as last seen, a string

	// epoch counts how often Redis has forgotten; see [Check.Forget].
	forgetting sync.RWMutex // held to read what is acknowledged together with it
	epoch      atomic.Int64
	forgotAt   atomic.Int64 // since start
}

// row is what is known of one row. Only its writer changes it.
type row struct {
	mu        sync.Mutex
	committed []time.Time // committed[n-1]: when count n had been committed
	acked     int64       // the highest count whose increment is acknowledged
	forgotten int64       // the same, before Redis forgot it
}

// New prepares a check on a table made by [Prepare].
func New(cfg Config) (*Check, error) {
	if cfg.DB == nil || cfg.Redis == nil || cfg.Cache == nil || cfg.TokenKey == "" {
		return nil, errors.New("soak: DB, Redis, Cache and TokenKey must be set")
	}
	cfg.Rows, cfg.Writers, cfg.Readers = or(cfg.Rows, 50), or(cfg.Writers, 4), or(cfg.Readers, 8)
	cfg.Pause, cfg.Settle, cfg.AckTimeout = or(cfg.Pause, 5*time.Millisecond), or(cfg.Settle, 30*time.Second), or(cfg.AckTimeout, 20*time.Second)
	c := &Check{cfg: cfg, rows: make([]row, cfg.Rows), start: time.Now(), caught: make([]atomic.Int64, cfg.Writers)}
	c.servers = append([]redis.Cmdable{cfg.Redis}, cfg.Also...)
	if c.cfg.Read == nil {
		read, err := newReader(cfg.Cache)
		if err != nil {
			return nil, err
		}
		c.cfg.Read = read
	}
	return c, nil
}

// Prepare creates the table, empty. Migrations come after it, New after those.
func Prepare(ctx context.Context, db *pgxpool.Pool) error {
	_, err := db.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS icache_soak;
		DROP TABLE IF EXISTS icache_soak.counts;
		CREATE TABLE icache_soak.counts (id int PRIMARY KEY, n bigint NOT NULL)`)
	if err != nil {
		return fmt.Errorf("create the soak table: %w", err)
	}
	return nil
}

// Run writes and reads until ctx ends, waits until everything has come to rest,
// and reports. Servers may fail meanwhile; errors of single operations are
// counted, not returned.
func (c *Check) Run(ctx context.Context) (Report, error) {
	start := time.Now()
	if _, err := c.cfg.DB.Exec(ctx, "INSERT INTO icache_soak.counts SELECT g, 0 FROM generate_series(1, $1) g", c.cfg.Rows); err != nil {
		return Report{}, fmt.Errorf("fill the soak table: %w", err)
	}
	var g errgroup.Group
	for w := range c.cfg.Writers {
		g.Go(func() error { c.write(ctx, w); return nil })
	}
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var readers errgroup.Group
	for range c.cfg.Readers {
		readers.Go(func() error {
			for reading.Err() == nil {
				c.read(reading, rand.IntN(c.cfg.Rows))
				time.Sleep(time.Millisecond)
			}
			return nil
		})
	}
	_ = g.Wait() // writers return no errors
	lost := c.rest(context.WithoutCancel(ctx))
	stop()
	_ = readers.Wait() // nor do readers
	c.cleanUp(context.WithoutCancel(ctx))
	r := c.report.report()
	r.Seconds, r.Lost = time.Since(start).Seconds(), lost
	return r, nil
}

// Commits returns how many commits there have been.
func (c *Check) Commits() uint64 { return c.report.commits.Load() }

// Violations returns how many there have been.
func (c *Check) Violations() uint64 { return c.report.violations.Load() }

// Forget says that Redis has lost, or may have lost, some of what it had
// acknowledged: that it has restarted from a snapshot, or failed over. To be
// called while it does not answer. What had been acknowledged until then counts
// as that no longer; reads that miss it are counted apart.
func (c *Check) Forget() {
	c.forgetting.Lock()
	defer c.forgetting.Unlock()
	c.forgotAt.Store(int64(time.Since(c.start)))
	c.epoch.Add(1)
	for i := range c.rows {
		r := &c.rows[i]
		r.mu.Lock()
		r.forgotten, r.acked = max(r.forgotten, r.acked), 0
		r.mu.Unlock()
	}
}

// Recovered waits until a commit of each writer has been acknowledged that
// was committed after the call, and returns how long that took.
func (c *Check) Recovered(ctx context.Context) (time.Duration, error) {
	called := time.Since(c.start)
	for {
		behind := false
		for w := range c.caught {
			behind = behind || c.caught[w].Load() <= int64(called)
		}
		took := time.Since(c.start) - called
		if !behind {
			return took, nil
		}
		if err := ctx.Err(); err != nil {
			return took, fmt.Errorf("not everything is acknowledged %s after the fault: %w", took.Round(time.Millisecond), err)
		}
		time.Sleep(time.Millisecond)
	}
}

// rest waits until every row reads as it is in the database, and returns how
// many do not within the time allowed.
func (c *Check) rest(ctx context.Context) (lost int) {
	deadline := time.Now().Add(c.cfg.Settle)
	for {
		lost = 0
		for i := range c.rows {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			want, err := c.load(ctx, i)
			if err == nil {
				var got int64
				got, err = c.cfg.Read(ctx, i, func(ctx context.Context) (int64, error) { return c.load(ctx, i) })
				if err == nil && got < want {
					lost++
				}
			}
			cancel()
			if err != nil {
				lost++
			}
		}
		if lost == 0 || time.Now().After(deadline) {
			return lost
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *Check) load(ctx context.Context, i int) (n int64, err error) {
	return n, c.cfg.DB.QueryRow(ctx, "SELECT n FROM icache_soak.counts WHERE id = $1", i+1).Scan(&n)
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
