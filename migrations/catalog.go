package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/mapping"
)

// querier is what is needed of a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Kinds of relations, as pg_class.relkind has them.
const (
	kindTable       = 'r'
	kindPartitioned = 'p'
)

// relation is a table by its name and its oid.
type relation struct {
	oid  uint32
	name mapping.TableName
}

// table is what the catalog says about a mapped table.
type table struct {
	relation
	kind       byte
	parent     *mapping.TableName // the table that it is a partition of
	columns    []column
	primaryKey []string // empty without one, or if it is deferrable: then rows may share it for a while
	partitions []relation
	children   []relation // that inherit from it, at any depth, without partitions
	mayTrigger bool       // whether the role may create triggers
}

func (t *table) column(name string) *column {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

func (t *table) columnNames() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

type column struct {
	name      string
	typeName  string // qualified and quoted
	base      uint32 // type below domains
	isArray   bool
	isForeign bool     // a base type that is not built in
	isVirtual bool     // generated when read: NULL in triggers
	contains  []uint32 // types that its text form is made of
}

// session is what the connection says about the server and the role.
type session struct {
	role       string
	superuser  bool
	createRole bool
	version    int // server_version_num
	prepared   int // max_prepared_transactions
}

func readSession(ctx context.Context, q querier) (s session, err error) {
	err = q.QueryRow(ctx, `
		SELECT rolname, rolsuper, rolcreaterole, current_setting('server_version_num')::int,
		       current_setting('max_prepared_transactions')::int
		FROM pg_catalog.pg_roles WHERE rolname = current_user`).
		Scan(&s.role, &s.superuser, &s.createRole, &s.version, &s.prepared)
	if err != nil {
		return s, fmt.Errorf("read the role: %w", err)
	}
	if s.version < 150000 {
		return s, fmt.Errorf("the server runs Postgres %d, icache needs 15 or newer", s.version/10000)
	}
	return s, nil
}

// readTable reads one table. It returns nil without an error if there is none.
func readTable(ctx context.Context, q querier, name mapping.TableName) (*table, error) {
	t := &table{relation: relation{name: name}}
	var parentSchema, parentName *string
	err := q.QueryRow(ctx, `
		SELECT c.oid, c.relkind::text, pn.nspname, pc.relname,
		       has_table_privilege(c.oid, 'TRIGGER') OR pg_has_role(c.relowner, 'USAGE')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_class pc ON c.relispartition AND pc.oid = pg_partition_root(c.oid)
		LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, name.Schema, name.Name).
		Scan(&t.oid, scanByte{&t.kind}, &parentSchema, &parentName, &t.mayTrigger)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", name, err)
	}
	if parentName != nil {
		t.parent = &mapping.TableName{Schema: *parentSchema, Name: *parentName}
	}
	if err := errors.Join(t.readColumns(ctx, q), t.readPrimaryKey(ctx, q), t.readDescendants(ctx, q)); err != nil {
		return nil, fmt.Errorf("read table %s: %w", name, err)
	}
	return t, nil
}

func (t *table) readColumns(ctx context.Context, q querier) error {
	rows, err := q.Query(ctx, `
		WITH RECURSIVE part(root, oid) AS (
		  SELECT atttypid, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
		  UNION
		  SELECT p.root, below.oid FROM part p JOIN pg_catalog.pg_type ty ON ty.oid = p.oid CROSS JOIN LATERAL (
		    SELECT ty.typelem WHERE ty.typelem <> 0
		    UNION ALL SELECT ty.typbasetype WHERE ty.typbasetype <> 0
		    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE ty.oid IN (r.rngtypid, r.rngmultitypid)
		    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
		      WHERE a.attrelid = ty.typrelid AND ty.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped) below(oid)
		), base(root, oid, next) AS (
		  SELECT oid, oid, typbasetype FROM pg_catalog.pg_type WHERE oid IN (SELECT root FROM part)
		  UNION ALL
		  SELECT b.root, ty.oid, ty.typbasetype FROM base b JOIN pg_catalog.pg_type ty ON ty.oid = b.next
		)
		SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), b.oid, bt.typcategory = 'A',
		       bt.typtype = 'b' AND bt.typcategory <> 'A' AND bt.oid >= 16384, a.attgenerated = 'v', ARRAY(SELECT p.oid FROM part p WHERE p.root = a.atttypid ORDER BY 1)
		FROM pg_catalog.pg_attribute a
		JOIN base b ON b.root = a.atttypid AND b.next = 0
		JOIN pg_catalog.pg_type bt ON bt.oid = b.oid
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
		ORDER BY a.attnum`, t.oid)
	if err != nil {
		return err
	}
	t.columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		err = row.Scan(&c.name, &c.typeName, &c.base, &c.isArray, &c.isForeign, &c.isVirtual, &c.contains)
		return c, err
	})
	return err
}

func (t *table) readPrimaryKey(ctx context.Context, q querier) error {
	rows, err := q.Query(ctx, `
		SELECT a.attname FROM pg_catalog.pg_index i
		CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = $1 AND i.indisprimary AND i.indimmediate AND k.place <= i.indnkeyatts
		ORDER BY k.place`, t.oid)
	if err != nil {
		return err
	}
	t.primaryKey, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

func (t *table) readDescendants(ctx context.Context, q querier) error {
	rows, err := q.Query(ctx, `
		WITH RECURSIVE d(oid) AS (
		  SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = $1
		  UNION SELECT i.inhrelid FROM d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid)
		SELECT c.oid, n.nspname, c.relname, c.relispartition FROM d
		JOIN pg_catalog.pg_class c ON c.oid = d.oid AND c.relkind IN ('r', 'p')
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		ORDER BY n.nspname, c.relname`, t.oid)
	if err != nil {
		return err
	}
	var r relation
	var isPartition bool
	_, err = pgx.ForEachRow(rows, []any{&r.oid, &r.name.Schema, &r.name.Name, &isPartition}, func() error {
		if isPartition {
			t.partitions = append(t.partitions, r)
		} else {
			t.children = append(t.children, r)
		}
		return nil
	})
	return err
}

// tableNames returns the tables that a rule could mean, for suggestions.
func tableNames(ctx context.Context, q querier) ([]mapping.TableName, error) {
	rows, err := q.Query(ctx, `
		SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
		ORDER BY 1, 2 LIMIT 10000`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[mapping.TableName])
}

// isJSON reports whether the type below domains is json or jsonb.
func (c *column) isJSON() bool { return c.base == 114 || c.base == 3802 }

// settings that the text form of types depends on, and what they are pinned to.
var settings = []struct {
	name, value string
	types       []uint32
}{
	{"DateStyle", "ISO, YMD", []uint32{1082, 1114, 1184}},                                      // date, timestamp, timestamptz
	{"IntervalStyle", "postgres", []uint32{1186}},                                              // interval
	{"TimeZone", "UTC", []uint32{1184}},                                                        // timestamptz
	{"bytea_output", "hex", []uint32{17}},                                                      // bytea
	{"extra_float_digits", "1", append([]uint32{700, 701}, 600, 601, 602, 603, 604, 628, 718)}, // floats and the geometric types
	{"lc_monetary", "C", []uint32{790}},                                                        // money
}

// pins returns the settings to pin for the text form of columns, sorted, in
// the form in which pg_proc.proconfig has them.
func pins(columns []*column) []string {
	var list []string
	for _, s := range settings {
		if slices.ContainsFunc(columns, func(c *column) bool {
			return slices.ContainsFunc(s.types, func(oid uint32) bool { return slices.Contains(c.contains, oid) })
		}) {
			list = append(list, s.name+"="+s.value)
		}
	}
	return list
}

// scanByte scans a text of one byte.
type scanByte struct{ to *byte }

// Scan implements sql.Scanner.
func (s scanByte) Scan(src any) error {
	text, ok := src.(string)
	if !ok || len(text) != 1 {
		return fmt.Errorf("want one character, got %v", src)
	}
	*s.to = text[0]
	return nil
}
