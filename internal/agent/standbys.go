package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbys knows how far the standbys have replayed, over a connection of its
// own that it opens when it first needs it. It is not safe for concurrent use.
type standbys struct {
	connect func(ctx context.Context) (*pgx.Conn, error)
	log     *slog.Logger
	conn    *pgx.Conn
	warned  time.Time
}

// replay is what there is to know: positions in the log, in bytes.
type replay struct {
	written  uint64 // by the primary
	standbys int    // that are connected
	unknown  int    // of which it is not known how far they are
	replayed uint64 // by all others
}

// replayed stands for a position that every standby has replayed.
const replayed = math.MaxUint64

const standbysTimeout = 3 * time.Second

// Receivers that only archive the log replay nothing and are left out, as are
// base backups and logical replication.
const standbysSQL = `
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, count(pid), count(pid) FILTER (WHERE replay_lsn IS NULL),
       coalesce(min(pg_wal_lsn_diff(replay_lsn, '0/0')), 0)::bigint
  FROM pg_stat_replication AS s
 WHERE state IS DISTINCT FROM 'backup' AND NOT (replay_lsn IS NULL AND flush_lsn IS NOT NULL)
   AND NOT EXISTS (SELECT FROM pg_replication_slots AS r WHERE r.active_pid = s.pid AND r.slot_type = 'logical')`

var errHidden = errors.New("how far a standby has replayed is not known: it has just connected, or the agent's role may not see it (GRANT pg_read_all_stats to the role)")

func (s *standbys) ask(ctx context.Context) (p replay, err error) {
	ctx, cancel := context.WithTimeout(ctx, standbysTimeout)
	defer cancel()
	if s.conn == nil || s.conn.IsClosed() {
		if s.conn, err = s.connect(ctx); err != nil {
			return p, fmt.Errorf("connect: %w", err)
		}
	}
	var written, done int64
	if err := s.conn.QueryRow(ctx, standbysSQL).Scan(&written, &p.standbys, &p.unknown, &done); err != nil {
		s.close(ctx) // it may be a standby by now
		return p, fmt.Errorf("read pg_stat_replication: %w", err)
	}
	p.written, p.replayed = uint64(written), uint64(done)
	if p.unknown > 0 {
		s.warn(ctx, errHidden)
	}
	return p, nil
}

// warn logs at most once a minute.
func (s *standbys) warn(ctx context.Context, err error) {
	if ctx.Err() != nil || time.Since(s.warned) < time.Minute {
		return
	}
	s.warned = time.Now()
	s.log.WarnContext(ctx, "agent: cannot tell whether the standbys have replayed a change, second bumps wait", "error", err, "at_most", settleReplicasMax)
}

func (s *standbys) close(ctx context.Context) {
	if s.conn != nil {
		_ = s.conn.Close(ctx) // there is nothing to lose
		s.conn = nil
	}
}
