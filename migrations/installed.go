package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
)

// installed is what the database has. Reading it takes no lock on any table of
// the application.
type installed struct {
	schema    bool
	relations map[string]byte // kind by name
	functions map[string]installedFunction
	triggers  []installedTrigger
	rows      []tableRow
	version   string // empty if unknown

	eventTriggers []installedEventTrigger
}

type installedFunction struct {
	name     string
	args     string
	body     string
	settings []string
	definer  bool
	owner    string
	public   bool // whether PUBLIC may execute it
}

// isOurs reports whether this package made the function.
func (f *installedFunction) isOurs() bool {
	generated, _ := isGenerated(f.body, f.settings)
	return generated || f.name == recordFunction || f.name == truncateFunction
}

type installedTrigger struct {
	relation
	name          string
	function      string
	bits          int16
	enabled       byte
	before, after string // transition tables
	isClone       bool   // made by Postgres for a partition
	isPlain       bool   // without a condition or a list of columns
}

type installedEventTrigger struct {
	name     string
	event    string
	function string
	tags     []string // sorted
	enabled  byte
}

func readInstalled(ctx context.Context, q querier, n outbox.Names) (*installed, error) {
	in := &installed{relations: make(map[string]byte), functions: make(map[string]installedFunction)}
	if err := in.read(ctx, q, n); err != nil {
		return nil, fmt.Errorf("read what is installed in schema %s: %w", n.Schema(), err)
	}
	return in, nil
}

func (in *installed) read(ctx context.Context, q querier, n outbox.Names) error {
	err := q.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", n.Schema()).Scan(&in.schema)
	if err != nil || !in.schema {
		return err
	}
	if err := errors.Join(in.readRelations(ctx, q, n), in.readFunctions(ctx, q, n), in.readTriggers(ctx, q, n), in.readEventTriggers(ctx, q, n)); err != nil {
		return err
	}
	if in.relations["tables"] == kindTable {
		if err := in.readRows(ctx, q, n); err != nil {
			return err
		}
	}
	if in.relations["meta"] == kindTable {
		err := q.QueryRow(ctx, "SELECT value FROM "+n.Meta()+" WHERE key = 'version'").Scan(&in.version)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	return nil
}

func (in *installed) readRelations(ctx context.Context, q querier, n outbox.Names) error {
	rows, err := q.Query(ctx, `SELECT c.relname, c.relkind::text FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1`, n.Schema())
	if err != nil {
		return err
	}
	var name string
	var kind byte
	_, err = pgx.ForEachRow(rows, []any{&name, scanByte{&kind}}, func() error {
		in.relations[name] = kind
		return nil
	})
	return err
}

func (in *installed) readFunctions(ctx context.Context, q querier, n outbox.Names) error {
	rows, err := q.Query(ctx, `
		SELECT p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid), p.prosrc,
		       coalesce(p.proconfig, '{}'), p.prosecdef, pg_catalog.pg_get_userbyid(p.proowner),
		       EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) WHERE grantee = 0)
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = $1 AND p.prokind = 'f'`, n.Schema())
	if err != nil {
		return err
	}
	var f installedFunction
	_, err = pgx.ForEachRow(rows, []any{&f.name, &f.args, &f.body, &f.settings, &f.definer, &f.owner, &f.public}, func() error {
		in.functions[f.name] = f
		f.settings = nil // the next row must not write into the same array
		return nil
	})
	return err
}

func (in *installed) readTriggers(ctx context.Context, q querier, n outbox.Names) error {
	rows, err := q.Query(ctx, `
		SELECT c.oid, cn.nspname, c.relname, t.tgname, p.proname, t.tgtype, t.tgenabled::text,
		       coalesce(t.tgoldtable, ''), coalesce(t.tgnewtable, ''), t.tgparentid <> 0,
		       t.tgqual IS NULL AND t.tgattr::text = ''
		FROM pg_catalog.pg_trigger t
		JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
		WHERE n.nspname = $1
		ORDER BY cn.nspname, c.relname, t.tgname`, n.Schema())
	if err != nil {
		return err
	}
	var t installedTrigger
	_, err = pgx.ForEachRow(rows, []any{
		&t.oid, &t.relation.name.Schema, &t.relation.name.Name, &t.name, &t.function, &t.bits, scanByte{&t.enabled},
		&t.before, &t.after, &t.isClone, &t.isPlain,
	}, func() error {
		in.triggers = append(in.triggers, t)
		return nil
	})
	return err
}

func (in *installed) readEventTriggers(ctx context.Context, q querier, n outbox.Names) error {
	rows, err := q.Query(ctx, `
		SELECT e.evtname, e.evtevent, p.proname, ARRAY(SELECT tag FROM unnest(e.evttags) AS tag ORDER BY tag COLLATE "C"), e.evtenabled::text
		FROM pg_catalog.pg_event_trigger e
		JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = $1
		ORDER BY e.evtname`, n.Schema())
	if err != nil {
		return err
	}
	var t installedEventTrigger
	_, err = pgx.ForEachRow(rows, []any{&t.name, &t.event, &t.function, &t.tags, scanByte{&t.enabled}}, func() error {
		in.eventTriggers = append(in.eventTriggers, t)
		t.tags = nil // the next row must not write into the same array
		return nil
	})
	return err
}

func (in *installed) readRows(ctx context.Context, q querier, n outbox.Names) error {
	rows, err := q.Query(ctx, `
		SELECT t.relation::oid, coalesce(cn.nspname, ''), coalesce(c.relname, ''), t.name, t.definition
		FROM `+n.Tables()+` t
		LEFT JOIN pg_catalog.pg_class c ON c.oid = t.relation LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
		ORDER BY t.name, 2, 3`)
	if err != nil {
		return err
	}
	var r tableRow
	_, err = pgx.ForEachRow(rows, []any{&r.oid, &r.name.Schema, &r.name.Name, &r.table, &r.definition}, func() error {
		in.rows = append(in.rows, r)
		return nil
	})
	return err
}

// renamed returns the present name of the table that was installed under a
// name that no table has any more.
func (in *installed) renamed(name mapping.TableName) (mapping.TableName, bool) {
	var found []mapping.TableName
	for _, r := range in.rows {
		if r.table == name.String() && r.name.Name != "" {
			found = append(found, r.name)
		}
	}
	if len(found) != 1 { // tables that inherit have a row too
		return mapping.TableName{}, false
	}
	return found[0], true
}
