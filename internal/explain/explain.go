// Package explain finds out what statements would record in the outbox: it
// executes them in a transaction that is always rolled back.
//
// The transaction is rolled back whatever happens: after an error, when the
// context ends, and by the server if the connection is lost. Its rows in the
// outbox are never visible to the agent, its doorbell never rings, and the
// advisory lock that writers hold goes with it. What no rollback undoes are
// sequences that have moved on, and effects outside of the transaction, such as
// those of dblink.
package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
)

// maxChanges bounds the changes that are kept of a statement: a trigger for
// each row writes as many.
const maxChanges = 10_000

// rollbackTimeout bounds the wait for the server when the context has ended.
const rollbackTimeout = 5 * time.Second

// Options say how to execute.
type Options struct {
	Names outbox.Names
	// LockTimeout and Timeout bound how long a statement waits for a lock, and
	// how long it runs. Zero is no bound.
	LockTimeout, Timeout time.Duration
	// Before, if set, is called with the results before they are rolled back.
	Before func(context.Context, []Result)
}

// Result is what a statement did.
type Result struct {
	Statement Statement
	Tag       string // such as "UPDATE 3"; empty for what is deferred to the commit
	Changes   []Change
	More      int // changes that are not in Changes, past the first 10,000
}

// Change is a row of the outbox.
type Change struct {
	Table    string          // as the rules name it; empty if no rule does any more
	Relation string          // where the trigger fired, such as a partition
	Op       mapping.Op      //
	Keys     json.RawMessage // nil: unknown
}

// Error says which statement failed.
type Error struct {
	Statement Statement
	Err       error
}

// Error returns what the server said.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Statement.Line, e.Err) }

// Unwrap returns the error of the server.
func (e *Error) Unwrap() error { return e.Err }

// Run executes the statements and returns what they recorded, in order; after
// an error, what those before it did. The connection must not be in a transaction.
func Run(ctx context.Context, conn *pgx.Conn, statements []Statement, opts Options) (results []Result, err error) {
	for _, s := range statements {
		if reason := s.Refused(); reason != "" {
			return nil, &Error{s, errors.New(reason)}
		}
	}
	begin := fmt.Sprintf("BEGIN; SET LOCAL lock_timeout = %d; SET LOCAL statement_timeout = %d",
		opts.LockTimeout.Milliseconds(), opts.Timeout.Milliseconds())
	if _, err := conn.Exec(ctx, begin); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if conn.IsClosed() {
			return // which rolls back
		}
		if _, rollbackErr := conn.Exec(ctx, "ROLLBACK"); rollbackErr != nil {
			err = errors.Join(err, fmt.Errorf("roll back: %w", rollbackErr), conn.Close(ctx))
		}
	}()
	r := reader{conn: conn, names: opts.Names, last: -1}
	for _, s := range statements {
		result, err := r.execute(ctx, s)
		if err != nil {
			return results, &Error{s, err}
		}
		results = append(results, result)
	}
	// What waits for the commit happens now, or it would go unseen.
	deferred := Statement{SQL: "SET CONSTRAINTS ALL IMMEDIATE"}
	if len(statements) > 0 {
		deferred.Line = statements[len(statements)-1].Line
	}
	result, err := r.execute(ctx, deferred)
	if err != nil {
		return results, &Error{deferred, fmt.Errorf("a constraint that is checked at the commit: %w", err)}
	}
	if result.Tag = ""; len(result.Changes) > 0 {
		results = append(results, result)
	}
	if opts.Before != nil {
		opts.Before(ctx, results)
	}
	return results, nil
}

// reader executes statements and reads the rows that each added to the outbox.
type reader struct {
	conn  *pgx.Conn
	names outbox.Names
	last  int64 // command, within the transaction, that wrote the last row read
}

func (r *reader) execute(ctx context.Context, s Statement) (Result, error) {
	// The extended protocol takes one statement only, so nothing can hide behind it.
	tag, err := r.conn.PgConn().ExecParams(ctx, s.SQL, nil, nil, nil, nil).Close()
	if err != nil {
		return Result{}, plain(err)
	}
	if r.conn.PgConn().TxStatus() != 'T' {
		return Result{}, errors.New("the statement has ended the transaction: it may not have been rolled back")
	}
	result := Result{Statement: s, Tag: tag.String()}
	if err := r.read(ctx, &result); err != nil {
		return Result{}, fmt.Errorf("read the outbox: %w", err)
	}
	return result, nil
}

// read reads what came since the last time. A command writes its rows under a
// number, cmin, that only grows within the transaction.
func (r *reader) read(ctx context.Context, result *Result) error {
	var assigned bool
	if err := r.conn.QueryRow(ctx, "SELECT pg_current_xact_id_if_assigned() IS NOT NULL").Scan(&assigned); err != nil || !assigned {
		return err
	}
	rows, err := r.conn.Query(ctx, fmt.Sprintf(`
		SELECT o.command, coalesce(t.name, ''), o.relation::regclass::text, o.op, o.keys::text
		FROM (SELECT cmin::text::bigint AS command, relation, op::text AS op, keys FROM %s WHERE xid = pg_current_xact_id()
		      UNION ALL
		      SELECT cmin::text::bigint, relation, op::text, keys FROM %s WHERE xid = pg_current_xact_id()) AS o
		LEFT JOIN LATERAL (
		  SELECT t.name FROM %s AS t LEFT JOIN pg_partition_ancestors(o.relation::regclass) WITH ORDINALITY AS a(relid, distance) ON t.relation = a.relid
		  WHERE t.relation::oid = o.relation OR a.relid IS NOT NULL ORDER BY a.distance NULLS FIRST LIMIT 1) AS t ON true
		WHERE o.command > $1 ORDER BY o.command`, r.names.Outbox(0), r.names.Outbox(1), r.names.Tables()), r.last)
	if err != nil {
		return err
	}
	var c Change
	var op string
	var keys *string
	_, err = pgx.ForEachRow(rows, []any{&r.last, &c.Table, &c.Relation, &op, &keys}, func() error {
		c.Op, c.Keys = mapping.Op(op[0]), nil
		if keys != nil {
			c.Keys = json.RawMessage(*keys)
		}
		if len(result.Changes) == maxChanges {
			result.More++
		} else {
			result.Changes = append(result.Changes, c)
		}
		return nil
	})
	return err
}

// plain is an error of the server as psql shows it.
func plain(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	text := e.Message
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return &serverError{text, err}
}

type serverError struct {
	text string
	err  error
}

func (e *serverError) Error() string { return e.text }
func (e *serverError) Unwrap() error { return e.err }
