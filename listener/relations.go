package listener

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// relations maps the oids in the outbox to the names of the config. An oid
// never changes its meaning, but migrations add and rename, so an unknown one
// drops everything that is cached.
type relations struct {
	known map[uint32]*relation
}

type relation struct {
	name   string
	mapped bool
	stats  *tableCounts
	asked  time.Time
}

// refreshUnmapped is how long a name that came from the catalog is trusted.
const refreshUnmapped = 10 * time.Second

// resolve fills in the names of all relations of the rows. It returns those
// that exist no longer, neither in icache.tables nor in the catalog.
func (r *relations) resolve(ctx context.Context, s *session, rows []row, now time.Time) (gone []uint32, err error) {
	var missing []uint32
	last := uint32(0)
	for _, row := range rows {
		if row.relation == last {
			continue
		}
		last = row.relation
		rel, ok := r.known[row.relation]
		if ok && (rel.mapped || now.Sub(rel.asked) < refreshUnmapped) || slices.Contains(missing, row.relation) {
			continue
		}
		missing = append(missing, row.relation)
	}
	if len(missing) > 0 {
		for _, row := range rows { // everything is asked for again
			if !slices.Contains(missing, row.relation) {
				missing = append(missing, row.relation)
			}
		}
		if r.known, err = s.lookUp(ctx, missing, now); err != nil {
			return nil, err
		}
	}
	for oid, rel := range r.known {
		if rel.name == "" && slices.ContainsFunc(rows, func(row row) bool { return row.relation == oid }) {
			gone = append(gone, oid)
		}
	}
	slices.Sort(gone)
	return gone, nil
}

// lookUp asks icache.tables for the relation itself, then for the partitioned
// tables above it, nearest first, then the catalog.
func (s *session) lookUp(ctx context.Context, oids []uint32, now time.Time) (map[uint32]*relation, error) {
	ctx, cancel := context.WithTimeout(ctx, s.l.patience())
	defer cancel()
	tables := s.l.names.Tables()
	rows, err := s.conn.Query(ctx, fmt.Sprintf(`
SELECT r.oid, t.name IS NOT NULL, coalesce(t.name, c.name, '')
  FROM unnest($1::oid[]) AS r(oid)
  LEFT JOIN LATERAL (
       SELECT name FROM (
              SELECT name, 0 AS distance FROM %[1]s WHERE relation::oid = r.oid
              UNION ALL
              SELECT t.name, a.distance FROM pg_partition_ancestors(r.oid::regclass) WITH ORDINALITY AS a(relid, distance)
                JOIN %[1]s AS t ON t.relation = a.relid) AS x
        ORDER BY distance LIMIT 1) AS t ON true
  LEFT JOIN LATERAL (
       SELECT format('%%I.%%I', n.nspname, c.relname) AS name
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = coalesce(pg_partition_root(r.oid::regclass)::oid, r.oid)) AS c ON true`, tables), oids)
	if err != nil {
		return nil, fmt.Errorf("look up relations: %w", err)
	}
	defer rows.Close()
	known := make(map[uint32]*relation, len(oids))
	for rows.Next() {
		var oid uint32
		rel := &relation{asked: now}
		if err := rows.Scan(&oid, &rel.mapped, &rel.name); err != nil {
			return nil, fmt.Errorf("look up relations: %w", err)
		}
		rel.stats = s.l.stats.table(rel.name)
		known[oid] = rel
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look up relations: %w", err)
	}
	return known, nil
}
