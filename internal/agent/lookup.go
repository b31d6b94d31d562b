package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/mapping"
)

// lookups answers {fk->table.column}: it reads the wanted column of the rows
// that foreign keys point to, with one query for each kind of lookup and batch,
// over a connection of its own that it opens when it first needs it.
//
// What cannot be answered is not an error: the mapper then bumps the group
// token, which outdates more and loses nothing.
type lookups struct {
	connect func(ctx context.Context) (*pgx.Conn, error)
	log     *slog.Logger
	conn    *pgx.Conn
	queries map[mapping.Lookup]string
	warned  time.Time
}

const lookupTimeout = 3 * time.Second

func newLookups(connect func(ctx context.Context) (*pgx.Conn, error), log *slog.Logger) *lookups {
	return &lookups{connect: connect, log: log, queries: make(map[mapping.Lookup]string)}
}

// Resolve answers lookups in the way of a running agent, over a connection that
// stays open. What cannot be answered is left out.
func Resolve(ctx context.Context, conn *pgx.Conn, keys []mapping.LookupKey) mapping.Resolved {
	l := newLookups(nil, slog.New(slog.DiscardHandler))
	l.conn = conn
	return l.resolve(ctx, keys)
}

// resolve answers keys, which may repeat. It is not safe for concurrent use.
func (l *lookups) resolve(ctx context.Context, keys []mapping.LookupKey) mapping.Resolved {
	byLookup := make(map[mapping.Lookup][]string)
	resolved := make(mapping.Resolved, len(keys))
	asked := make(map[mapping.LookupKey]struct{}, len(keys))
	for _, k := range keys {
		if _, dup := asked[k]; !dup {
			asked[k] = struct{}{}
			byLookup[k.Lookup] = append(byLookup[k.Lookup], k.Key)
		}
	}
	for lookup, values := range byLookup {
		if err := l.query(ctx, lookup, values, resolved); err != nil && ctx.Err() == nil {
			l.warn(ctx, lookup, err)
		}
	}
	return resolved
}

func (l *lookups) query(ctx context.Context, lookup mapping.Lookup, values []string, into mapping.Resolved) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if l.conn == nil || l.conn.IsClosed() && l.connect != nil {
		conn, err := l.connect(ctx)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		l.conn = conn
	}
	sql, ok := l.queries[lookup]
	if !ok {
		var err error
		if sql, err = l.prepare(ctx, lookup); err != nil {
			return err
		}
		l.queries[lookup] = sql
	}
	rows, err := l.conn.Query(ctx, sql, values)
	if err != nil {
		return l.forget(lookup, err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var text *string
		if err := rows.Scan(&key, &text); err != nil {
			return err
		}
		v := mapping.Value{Null: text == nil}
		if text != nil {
			v.Text = *text
		}
		into[mapping.LookupKey{Lookup: lookup, Key: key}] = v
	}
	return l.forget(lookup, rows.Err())
}

// forget drops a query that has failed: the table may have been altered.
func (l *lookups) forget(lookup mapping.Lookup, err error) error {
	if err != nil {
		delete(l.queries, lookup)
	}
	return err
}

// referenced finds the column that a foreign key points to: by the constraint,
// else the primary key if that is one column.
const referenced = `
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM (
  SELECT 1 AS rank, c.confrelid AS rel, c.confkey[1] AS num
  FROM pg_constraint c JOIN pg_attribute k ON k.attrelid = c.conrelid AND k.attnum = c.conkey[1]
  WHERE c.contype = 'f' AND c.conrelid = to_regclass($1) AND c.confrelid = to_regclass($2) AND cardinality(c.conkey) = 1 AND k.attname = $3
  UNION ALL
  SELECT 2, c.conrelid, c.conkey[1] FROM pg_constraint c
  WHERE c.contype = 'p' AND c.conrelid = to_regclass($2) AND cardinality(c.conkey) = 1
) f JOIN pg_attribute a ON a.attrelid = f.rel AND a.attnum = f.num ORDER BY f.rank LIMIT 1`

func (l *lookups) prepare(ctx context.Context, lookup mapping.Lookup) (string, error) {
	ref := lookup.Ref
	if ref.Schema == "" {
		ref.Schema = lookup.Table.Schema
	}
	table := pgx.Identifier{ref.Schema, ref.Name}.Sanitize()
	var column, typ string
	err := l.conn.QueryRow(ctx, referenced, pgx.Identifier{lookup.Table.Schema, lookup.Table.Name}.Sanitize(), table, lookup.Column).Scan(&column, &typ)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("%s has neither a foreign key from %s.%s nor a primary key of one column", ref, lookup.Table, lookup.Column)
	}
	if err != nil {
		return "", err
	}
	key, wanted := pgx.Identifier{column}.Sanitize(), pgx.Identifier{lookup.RefColumn}.Sanitize()
	return fmt.Sprintf("SELECT %s::text, %s::text FROM %s WHERE %s = ANY ($1::text[]::%s[])", key, wanted, table, key, typ), nil
}

// warn logs at most once a minute: the fallback works, it only outdates more.
func (l *lookups) warn(ctx context.Context, lookup mapping.Lookup, err error) {
	if time.Since(l.warned) < time.Minute {
		return
	}
	l.warned = time.Now()
	hint := ""
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
		hint = "grant the agent SELECT on " + lookup.Ref.String()
	}
	l.log.WarnContext(ctx, "agent: foreign keys could not be followed, bumping the group token instead",
		"table", lookup.Table.String(), "column", lookup.Column, "to", lookup.Ref.String(), "error", err, "hint", hint)
}

func (l *lookups) close(ctx context.Context) {
	if l.conn != nil {
		_ = l.conn.Close(ctx) // there is nothing to lose
		l.conn = nil
	}
}
