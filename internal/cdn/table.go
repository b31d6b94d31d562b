package cdn

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// tableTimeout bounds what is done with the table at a time.
const tableTimeout = 5 * time.Second

// table is icache.purges, over a connection of its own that is opened when it is
// first needed. Each process has rows of its own, so that a leader that was only
// paused cannot remove what its successor relies on.
type table struct {
	connect func(ctx context.Context) (*pgx.Conn, error)
	names   outbox.Names
	agent   string // this process

	mu   sync.Mutex
	conn *pgx.Conn
}

// with runs f on the connection. After an error the next call connects again.
func (t *table) with(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, tableTimeout)
	defer cancel()
	if t.conn == nil || t.conn.IsClosed() {
		if t.conn, err = t.connect(ctx); err != nil {
			t.conn = nil
			return fmt.Errorf("connect: %w", err)
		}
	}
	if err := f(ctx, t.conn); err != nil {
		_ = t.conn.Close(ctx) // the server may be a standby by now
		t.conn = nil
		return err
	}
	return nil
}

func (t *table) close(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		_ = t.conn.Close(ctx) // there is nothing to lose
		t.conn = nil
	}
}

// usable reports whether the table is there and the role has its rights.
func (t *table) usable(ctx context.Context) (ok bool, err error) {
	err = t.with(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT coalesce(bool_and(has_table_privilege(t, p)), false)
			FROM to_regclass($1) AS t, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p WHERE t IS NOT NULL`, t.names.Purges()).Scan(&ok)
	})
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", t.names.Purges(), err)
	}
	return ok, nil
}

// write changes the rows of sinks, all or none.
func (t *table) write(ctx context.Context, changes map[string]rows) error {
	var goneSinks, goneKeys, putSinks, putKeys []string
	var since []time.Time
	for sink, r := range changes {
		for _, key := range r.gone {
			goneSinks, goneKeys = append(goneSinks, sink), append(goneKeys, key)
		}
		for key, at := range r.put {
			putSinks, putKeys, since = append(putSinks, sink), append(putKeys, key), append(since, at)
		}
	}
	if len(goneKeys)+len(putKeys) == 0 {
		return nil
	}
	err := t.with(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if len(goneKeys) > 0 {
				_, err := tx.Exec(ctx, `DELETE FROM `+t.names.Purges()+` AS p USING unnest($2::text[], $3::text[]) AS g (sink, key)
					WHERE p.agent = $1 AND p.sink = g.sink AND p.key = g.key`, t.agent, goneSinks, goneKeys)
				if err != nil {
					return err
				}
			}
			if len(putKeys) == 0 {
				return nil
			}
			_, err := tx.Exec(ctx, `INSERT INTO `+t.names.Purges()+` (agent, sink, key, since)
				SELECT $1, * FROM unnest($2::text[], $3::text[], $4::timestamptz[]) ON CONFLICT DO NOTHING`, t.agent, putSinks, putKeys, since)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", t.names.Purges(), err)
	}
	return nil
}

// row is what another process has left.
type row struct {
	sink, key string
	since     time.Time
}

// takeOver makes the rows of all other processes those of this one, without
// those of sinks that there are no longer, and returns them.
func (t *table) takeOver(ctx context.Context, sinks []string) (left []row, err error) {
	err = t.with(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		res, err := conn.Query(ctx, `WITH others AS (DELETE FROM `+t.names.Purges()+` WHERE agent <> $1 RETURNING sink, key, since)
			INSERT INTO `+t.names.Purges()+` (agent, sink, key, since)
			SELECT $1, sink, key, min(since) FROM others WHERE sink = ANY ($2) GROUP BY sink, key
			ON CONFLICT (agent, sink, key) DO UPDATE SET since = least(purges.since, EXCLUDED.since)
			RETURNING sink, key, since`, t.agent, sinks)
		if err != nil {
			return err
		}
		left, err = pgx.CollectRows(res, func(r pgx.CollectableRow) (w row, err error) {
			return w, r.Scan(&w.sink, &w.key, &w.since)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", t.names.Purges(), err)
	}
	slices.SortStableFunc(left, func(a, b row) int { return a.since.Compare(b.since) })
	return left, nil
}
