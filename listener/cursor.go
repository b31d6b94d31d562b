package listener

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// epoch says what a cursor is valid for. Transaction ids mean nothing in
// another cluster, on another timeline, or in a restored copy.
type epoch struct {
	system    int64
	timeline  string // "timeline/database/cursor table", the latter two as oids
	files     string // of the outbox tables
	position  string // the file of the cursor table
	started   time.Time
	unlogged  bool // the cursor table is: a crash empties it
	now       snapshot
	prepared  int // max_prepared_transactions
	serverVer int
}

// position is a saved cursor.
type position struct {
	system   int64
	timeline string
	files    string
	started  time.Time
	cursor   snapshot
}

func (s *session) readEpoch(ctx context.Context) (epoch, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var e epoch
	var snap string
	err := s.conn.QueryRow(ctx, `
SELECT (SELECT system_identifier FROM pg_control_system()),
       left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/' ||
         (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || c.oid,
       `+filesSQL(s.l.names)+`, `+cursorFileSQL(s.l.names)+`::text,
       pg_postmaster_start_time(), c.relpersistence = 'u', pg_current_snapshot()::text,
       current_setting('max_prepared_transactions')::int, current_setting('server_version_num')::int
  FROM pg_class c WHERE c.oid = $1::text::regclass`, s.l.names.Cursor()).
		Scan(&e.system, &e.timeline, &e.files, &e.position, &e.started, &e.unlogged, &snap, &e.prepared, &e.serverVer)
	if err != nil {
		return epoch{}, fmt.Errorf("identify the server: %w", err)
	}
	e.now, err = parseSnapshot(snap)
	return e, err
}

// loadCursor returns nil if there is none.
func (s *session) loadCursor(ctx context.Context) (*position, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var p position
	var snap string
	err := s.conn.QueryRow(ctx, `SELECT system_identifier, timeline, started, snap::text FROM `+s.l.names.Cursor()).
		Scan(&p.system, &p.timeline, &p.started, &snap)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load the cursor: %w", err)
	}
	p.timeline, p.files, _ = strings.Cut(p.timeline, filesSeparator)
	p.cursor, err = parseSnapshot(snap)
	return &p, err
}

// gapBetween says why a saved cursor does not carry on to now, or "".
//
// The cursor table is unlogged, which makes it a witness: Postgres empties it
// whenever it recovers from a crash, is promoted or is restored, and keeps it
// across a clean restart. A crash may have undone commits that were visible
// before it (synchronous_commit = off), and uses their transaction ids again.
// The start time of the postmaster would not do: it stays the same when one
// backend crashes and all others are restarted.
func gapBetween(saved *position, now epoch, seen snapshot) string {
	switch {
	case !now.unlogged:
		return "the cursor table is not unlogged, so a crash of Postgres cannot be told from a restart"
	case saved == nil:
		return "no cursor: the first start, a crash or promotion of Postgres, or a restored database"
	case saved.system != now.system:
		return "the cursor is of another database cluster"
	case saved.timeline != now.timeline:
		return "the cursor is of another timeline or database (" + saved.timeline + ", now " + now.timeline + ")"
	case saved.files != now.files:
		return emptied
	case now.now.xmax < saved.cursor.xmax, now.now.xmax < seen.xmax:
		return "transaction ids went back"
	}
	return ""
}

// saveCursor inserts or updates the saved cursor. It reports whether a row that
// should have been there was missing.
func (s *session) saveCursor(ctx context.Context, e epoch, c snapshot, insert bool) (missing bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.l.patience())
	defer cancel()
	table := s.l.names.Cursor()
	values := fmt.Sprintf("%d, %s, '%s'::timestamptz, '%s'::pg_snapshot, now()",
		e.system, literal(e.timeline+filesSeparator+e.files), e.started.UTC().Format("2006-01-02 15:04:05.999999Z07:00"), c)
	const columns = "(system_identifier, timeline, started, snap, updated_at)"
	sql := "UPDATE " + table + " SET " + columns + " = (" + values + ")"
	if insert {
		sql = "DELETE FROM " + table + "; INSERT INTO " + table + " " + columns + " VALUES (" + values + ")"
	}
	res, err := s.pg.Exec(ctx, sql).ReadAll()
	if err != nil {
		return false, fmt.Errorf("save the cursor: %w", err)
	}
	return !insert && res[0].CommandTag.RowsAffected() == 0, nil
}

func (s *session) dropCursor(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.l.patience())
	defer cancel()
	if err := s.exec(ctx, "DELETE FROM "+s.l.names.Cursor()); err != nil {
		return fmt.Errorf("drop the cursor: %w", err)
	}
	return nil
}

// schemaVersion is the version of the database objects that this package knows.
const schemaVersion = 1

const hintMigrate = `run "icache-agent migrate up"`

// errMissing is the ErrSchema of objects that are not there, which to a listener
// that has found them before says that a dump is being restored.
var errMissing = fmt.Errorf("%w: missing or incomplete", ErrSchema)

// checkSchema returns an ErrSchema that says what to do.
func (s *session) checkSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var text string
	err := s.conn.QueryRow(ctx, `SELECT value FROM `+s.l.names.Meta()+` WHERE key = 'version'`).Scan(&text)
	switch state := sqlState(err); {
	case errors.Is(err, pgx.ErrNoRows), state == "42P01", state == "3F000":
		return fmt.Errorf("%w: schema %q of this database; %s", errMissing, s.l.names.Schema(), hintMigrate)
	case err != nil:
		return fmt.Errorf("read the version of the database objects: %w", err)
	}
	version, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return fmt.Errorf("%w: version %q of schema %q is no number; %s", ErrSchema, text, s.l.names.Schema(), hintMigrate)
	case version < schemaVersion:
		return fmt.Errorf("%w: schema %q has version %d, this program needs %d; %s", ErrSchema, s.l.names.Schema(), version, schemaVersion, hintMigrate)
	case version > schemaVersion:
		return fmt.Errorf("%w: schema %q has version %d, this program knows %d; use a newer icache-agent", ErrSchema, s.l.names.Schema(), version, schemaVersion)
	}
	return nil
}
