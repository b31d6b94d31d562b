package introspect

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/mapping"
)

// relation is a table, a view or the like.
type relation struct {
	name               mapping.TableName
	kind               string             // as in pg_class.relkind
	root               *mapping.TableName // the table that it is a partition of
	parent             *mapping.TableName // a table that it inherits from
	extension          *string            // that it belongs to
	mayUse, mayTrigger bool
	key                []Column
	virtual            []string
}

// readRelations reads every relation outside of the system's schemas.
func readRelations(ctx context.Context, q querier) ([]relation, error) {
	rows, err := q.Query(ctx, `
		SELECT n.nspname, c.relname, c.relkind::text, rn.nspname, r.relname, pn.nspname, p.relname, e.extname,
		       has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'TRIGGER') OR pg_has_role(c.relowner, 'USAGE'),
		       key.names, key.types,
		       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
		         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = 'v' ORDER BY a.attnum)
		FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_class r ON c.relispartition AND r.oid = pg_partition_root(c.oid)
		LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
		LEFT JOIN LATERAL (SELECT inhparent FROM pg_catalog.pg_inherits
		  WHERE inhrelid = c.oid AND NOT c.relispartition ORDER BY inhseqno LIMIT 1) i ON true
		LEFT JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
		LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
		LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
		LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
		LEFT JOIN LATERAL (
		  SELECT array_agg(a.attname::text ORDER BY k.place) AS names,
		         array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY k.place) AS types
		  FROM pg_catalog.pg_index x
		  CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, place)
		  JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
		  WHERE x.indrelid = c.oid AND x.indisprimary AND k.place <= x.indnkeyatts) key ON true
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (relation, error) {
		var r relation
		var rootSchema, rootName, parentSchema, parentName *string
		var keyNames, keyTypes []string
		err := row.Scan(&r.name.Schema, &r.name.Name, &r.kind, &rootSchema, &rootName, &parentSchema, &parentName, &r.extension,
			&r.mayUse, &r.mayTrigger, &keyNames, &keyTypes, &r.virtual)
		if rootName != nil {
			r.root = &mapping.TableName{Schema: *rootSchema, Name: *rootName}
		}
		if parentName != nil {
			r.parent = &mapping.TableName{Schema: *parentSchema, Name: *parentName}
		}
		r.key = columns(keyNames, keyTypes)
		return r, err
	})
}

func columns(names, types []string) []Column {
	list := make([]Column, len(names))
	for i := range names {
		list[i] = Column{names[i], types[i]}
	}
	return list
}

// readForeignKeys fills in the foreign keys of the tables.
func (db *Database) readForeignKeys(ctx context.Context, q querier) error {
	tables := make(map[mapping.TableName]*Table, len(db.Tables))
	for i := range db.Tables {
		tables[db.Tables[i].Name] = &db.Tables[i]
	}
	// A foreign key of a partitioned table, or to one, has copies below it.
	rows, err := q.Query(ctx, `
		SELECT n.nspname, c.relname, k.conname, own.names, own.types, fn.nspname, f.relname, ref.names, ref.types,
		       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index x
		         CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY u(attnum, place)
		         JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.attnum
		         WHERE x.indrelid = f.oid AND x.indisprimary AND u.place <= x.indnkeyatts ORDER BY u.place)
		FROM pg_catalog.pg_constraint k
		JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_class f ON f.oid = coalesce(pg_partition_root(k.confrelid)::oid, k.confrelid)
		JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
		CROSS JOIN LATERAL (
		  SELECT array_agg(a.attname::text ORDER BY u.place) AS names,
		         array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY u.place) AS types
		  FROM unnest(k.conkey) WITH ORDINALITY u(attnum, place)
		  JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) own
		CROSS JOIN LATERAL (
		  SELECT array_agg(a.attname::text ORDER BY u.place) AS names,
		         array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY u.place) AS types
		  FROM unnest(k.confkey) WITH ORDINALITY u(attnum, place)
		  JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum) ref
		WHERE k.contype = 'f' AND k.conparentid = 0
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", k.conkey, k.conname COLLATE "C"`)
	if err != nil {
		return err
	}
	var table mapping.TableName
	var fk ForeignKey
	var names, types, refNames, refTypes []string
	_, err = pgx.ForEachRow(rows, []any{
		&table.Schema, &table.Name, &fk.Name, &names, &types, &fk.Ref.Schema, &fk.Ref.Name, &refNames, &refTypes, &fk.RefKey,
	}, func() error {
		if t := tables[table]; t != nil {
			fk.Columns, fk.RefColumns = columns(names, types), columns(refNames, refTypes)
			t.ForeignKeys = append(t.ForeignKeys, fk)
		}
		// The next row must not be scanned into the same arrays.
		fk, names, types, refNames, refTypes = ForeignKey{}, nil, nil, nil, nil
		return nil
	})
	return err
}
