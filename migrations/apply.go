package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/mapping"
)

// Postgres error codes.
const (
	codeLockNotAvailable     = "55P03"
	codeUndefinedObject      = "42704"
	codeUndefinedFunction    = "42883"
	codeInternal             = "XX000" // "tuple concurrently updated"
	codeUniqueViolation      = "23505"
	codeDuplicateObject      = "42710"
	codeDependentsExist      = "2BP01"
	codeInsufficientRights   = "42501"
	codeDeadlock             = "40P01"
	codeSerializationFailure = "40001"
)

const (
	// laterLockTimeout is for the locks that are taken while others are held.
	// It is well below deadlock_timeout (1s), so that in a deadlock with the
	// application it is never the application that is made to fail.
	laterLockTimeout = 100 * time.Millisecond
	maxAttempts      = 10
)

// Plan returns what Up would do. It changes nothing and takes no lock on any
// table of the application. Rules that do not fit the database are a *CheckError.
func (m *Migrator) Plan(ctx context.Context) (*Plan, error) {
	var plan *Plan
	err := m.readOnly(ctx, func(tx pgx.Tx) (err error) {
		plan, err = m.planUp(ctx, tx)
		return err
	})
	return plan, err
}

// Up brings the database in line with the rules, in one transaction, and
// returns what was done; if there is nothing to do it takes no lock on any
// table of the application.
//
// Rules that do not fit the database are a *[CheckError], a table that cannot
// be locked in time a *[BusyError]. After an error nothing has changed.
func (m *Migrator) Up(ctx context.Context) (*Plan, error) {
	plan, err := m.apply(ctx, m.planUp)
	if _, ok := errors.AsType[*CheckError](err); ok {
		return nil, err // its lines begin with a position
	}
	if err != nil {
		return nil, fmt.Errorf("migrate up: %w", err)
	}
	return plan, nil
}

// Down removes everything that Up made, in one transaction, and returns what
// was done. The schema is kept if it holds objects of others, the writer role
// if another database of the cluster uses it; the notes say so.
func (m *Migrator) Down(ctx context.Context) (*Plan, error) {
	plan, err := m.apply(ctx, m.planDown)
	if err != nil {
		return nil, fmt.Errorf("migrate down: %w", err)
	}
	return plan, nil
}

func (m *Migrator) planUp(ctx context.Context, tx pgx.Tx) (*Plan, error) {
	i, err := m.inspect(ctx, tx, toApply)
	if err != nil {
		return nil, err
	}
	if len(i.problems) > 0 {
		return nil, &CheckError{i.problems}
	}
	return &i.plan, nil
}

// readOnly runs f in a transaction that sees one state of the catalog.
func (m *Migrator) readOnly(ctx context.Context, f func(pgx.Tx) error) error {
	tx, err := m.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer rollback(ctx, tx)
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog, pg_temp"); err != nil {
		return fmt.Errorf("set the search path: %w", err)
	}
	return f(tx)
}

func rollback(ctx context.Context, tx pgx.Tx) {
	_ = tx.Rollback(context.WithoutCancel(ctx)) // after a commit there is nothing to roll back
}

// apply executes a plan in one transaction.
//
// The lock on the first table is waited for; those on further tables hardly,
// since waiting while holding locks can end in a deadlock. If one of them is
// busy, everything is undone and that table comes first in the next attempt.
func (m *Migrator) apply(ctx context.Context, build func(context.Context, pgx.Tx) (*Plan, error)) (*Plan, error) {
	var first mapping.TableName
	for attempt := 1; ; attempt++ {
		plan, busy, err := m.attempt(ctx, build, first)
		switch {
		case err == nil:
			return plan, nil
		case attempt == maxAttempts || ctx.Err() != nil:
		case isCode(err, codeLockNotAvailable) && busy != (mapping.TableName{}) && busy != first:
			first = busy
			continue
		case isCode(err, codeUndefinedObject, codeInternal, codeUniqueViolation, codeDuplicateObject, codeDeadlock, codeSerializationFailure) && attempt < 3:
			continue // another database of the cluster made or dropped the shared role meanwhile
		}
		if isCode(err, codeLockNotAvailable) {
			return nil, m.busy(ctx, busy, err)
		}
		return nil, err
	}
}

// attempt applies the plan once. busy is the table that the failed statement locks.
func (m *Migrator) attempt(ctx context.Context, build func(context.Context, pgx.Tx) (*Plan, error), first mapping.TableName) (plan *Plan, busy mapping.TableName, err error) {
	tx, err := m.conn.Begin(ctx)
	if err != nil {
		return nil, busy, fmt.Errorf("begin: %w", err)
	}
	defer rollback(ctx, tx)
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", m.names.MigrationKey()); err != nil {
		return nil, busy, fmt.Errorf("wait for other migrations: %w", err)
	}
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog, pg_temp; "+lockTimeout(m.cfg.LockTimeout)); err != nil {
		return nil, busy, fmt.Errorf("set the lock timeout: %w", err)
	}
	if plan, err = build(ctx, tx); err != nil {
		return nil, busy, err
	}
	var waited mapping.TableName
	for _, c := range inOrder(plan.Changes, first) {
		if c.locks != (mapping.TableName{}) && waited == (mapping.TableName{}) {
			waited = c.locks
		} else if c.locks != (mapping.TableName{}) && c.locks != waited {
			timeout := min(m.cfg.LockTimeout, laterLockTimeout)
			if _, err := tx.Exec(ctx, lockTimeout(timeout)); err != nil {
				return nil, busy, fmt.Errorf("set the lock timeout: %w", err)
			}
		}
		note, err := m.execute(ctx, tx, c)
		if err != nil {
			if c.superuser && isCode(err, codeInsufficientRights) {
				err = fmt.Errorf("%w (%s; or leave it out: postgres.event_trigger)", err, whoMay)
			}
			return nil, c.locks, fmt.Errorf("%s: %w", c.Object, err)
		}
		if note != "" {
			plan.Notes = append(plan.Notes, note)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, busy, fmt.Errorf("commit: %w", err)
	}
	return plan, busy, nil
}

// execute runs one change. An optional one that fails for a reason foreseen is
// undone, and a note says so.
func (m *Migrator) execute(ctx context.Context, tx pgx.Tx, c Change) (note string, err error) {
	if c.optional == "" {
		_, err = tx.Exec(ctx, c.SQL)
		return "", err
	}
	nested, err := tx.Begin(ctx)
	if err != nil {
		return "", err
	}
	if _, err = nested.Exec(ctx, c.SQL); err == nil {
		return "", nested.Commit(ctx)
	}
	if !isCode(err, codeDependentsExist, codeInsufficientRights, codeUndefinedObject, codeInternal) {
		return "", err
	}
	return c.optional, nested.Rollback(ctx)
}

// inOrder returns the changes with those that lock a table first among those
// that lock any.
func inOrder(changes []Change, first mapping.TableName) []Change {
	list := slices.Clone(changes)
	locksAny := func(c Change) bool { return c.locks != (mapping.TableName{}) }
	start := slices.IndexFunc(list, locksAny)
	if start < 0 || first == (mapping.TableName{}) {
		return list
	}
	end := start
	for end < len(list) && locksAny(list[end]) {
		end++
	}
	slices.SortStableFunc(list[start:end], func(a, b Change) int {
		rank := func(c Change) int {
			if c.locks == first {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	return list
}

func lockTimeout(d time.Duration) string {
	return fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", d.Milliseconds())
}

func isCode(err error, codes ...string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pgErr.Code)
}

// busy makes an error that says who holds the table.
func (m *Migrator) busy(ctx context.Context, t mapping.TableName, err error) error {
	e := &BusyError{Timeout: m.cfg.LockTimeout, Err: err}
	if t == (mapping.TableName{}) {
		return e
	}
	e.Table = t.String()
	// Best effort: the holder may be gone by now.
	rows, queryErr := m.conn.Query(ctx, `
		SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''),
		       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8
		FROM pg_catalog.pg_stat_activity a
		WHERE a.pid <> pg_backend_pid() AND a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l
		  WHERE l.granted AND l.locktype = 'relation' AND l.relation = to_regclass($1)
		    AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
		ORDER BY a.xact_start LIMIT 5`, t.SQL())
	if queryErr != nil {
		return e
	}
	var b Blocker
	var seconds float64
	_, queryErr = pgx.ForEachRow(rows, []any{&b.PID, &b.Application, &b.State, &seconds}, func() error {
		b.Since = time.Duration(seconds * float64(time.Second))
		e.Blockers = append(e.Blockers, b)
		return nil
	})
	if queryErr != nil {
		e.Blockers = nil
	}
	return e
}

// planDown removes triggers first: who has the locks on all tables that have
// triggers knows that nobody is writing to the outbox.
func (m *Migrator) planDown(ctx context.Context, tx pgx.Tx) (*Plan, error) {
	in, err := readInstalled(ctx, tx, m.names)
	if err != nil {
		return nil, err
	}
	n := m.names
	plan := &Plan{}
	add := func(object, sql string) {
		plan.Changes = append(plan.Changes, Change{State: StateUnmapped, Object: object, SQL: sql})
	}
	for _, t := range in.eventTriggers { // before they see the rest
		plan.Changes = append(plan.Changes, t.drop())
	}
	used := make(map[string]bool)
	for _, t := range in.triggers {
		f := in.functions[t.function]
		if t.isClone || !f.isOurs() && !strings.HasPrefix(t.name, n.Schema()+"_") {
			continue
		}
		used[t.function] = true
		plan.Changes = append(plan.Changes, Change{
			State: StateUnmapped, Object: "trigger " + t.name + " on " + t.relation.name.String(),
			SQL: fmt.Sprintf("DROP TRIGGER %s ON %s;", ident(t.name), t.relation.name.SQL()), locks: t.relation.name,
		})
	}
	for _, f := range sortedFunctions(in) {
		if f.isOurs() || used[f.name] {
			add("function "+n.Schema()+"."+f.name, fmt.Sprintf("DROP FUNCTION %s(%s);", n.Ident(f.name), f.args))
		}
	}
	base := baseObjects(n)
	slices.Reverse(base)
	for _, o := range base {
		if !in.has(o) {
			continue
		}
		c := Change{State: StateUnmapped, Object: o.class + " " + o.name, SQL: fmt.Sprintf("DROP %s %s;", strings.ToUpper(o.class), n.Ident(o.name))}
		if o.class == "schema" {
			c.SQL = fmt.Sprintf("DROP SCHEMA %s;", ident(n.Schema()))
			c.optional = "schema " + n.Schema() + " is kept: it holds objects that icache did not make"
		}
		plan.Changes = append(plan.Changes, c)
	}
	return plan, m.planDropRole(ctx, tx, plan)
}

// planDropRole drops the writer role unless other databases use it.
func (m *Migrator) planDropRole(ctx context.Context, tx pgx.Tx, plan *Plan) error {
	w := m.cfg.WriterRole
	var exists, elsewhere, ours bool
	err := tx.QueryRow(ctx, `
		SELECT count(*) > 0, coalesce(bool_or(EXISTS (SELECT FROM pg_catalog.pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass
		         AND d.refobjid = r.oid AND d.dbid <> (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))), false),
		       coalesce(bool_and(NOT (rolsuper OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)), false)
		FROM pg_catalog.pg_roles r WHERE r.rolname = $1`, w).Scan(&exists, &elsewhere, &ours)
	if err != nil {
		return fmt.Errorf("read role %s: %w", w, err)
	}
	switch {
	case !exists || !ours:
	case elsewhere:
		if !plan.Empty() {
			plan.Notes = append(plan.Notes, "role "+w+" is kept: other databases of the cluster use it")
		}
	default:
		plan.Changes = append(plan.Changes, Change{
			State: StateUnmapped, Object: "role " + w, SQL: fmt.Sprintf("DROP ROLE %s;", ident(w)),
			optional: "role " + w + " is kept: something else uses it, or it belongs to another role",
		})
	}
	return nil
}
