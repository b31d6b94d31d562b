package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// writer says who will own the trigger functions.
type writer struct {
	name    string // empty: whoever creates them
	exists  bool
	member  bool     // whether the connected role has its rights, or is a superuser
	granted bool     // whether it may write the outbox already
	notes   []string // why there is none
}

// planWriter finds out whether the functions can be owned by the writer role.
// A role that can do more than write the outbox would be a way to get its rights.
func (m *Migrator) planWriter(ctx context.Context, q querier, s session, in *installed) (writer, error) {
	w := writer{name: m.cfg.WriterRole}
	var powerful, member, admin bool
	err := q.QueryRow(ctx, `
		SELECT rolsuper OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
		       pg_has_role(current_user, oid, 'MEMBER') AND pg_has_role(current_user, oid, 'USAGE'),
		       pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION')
		FROM pg_catalog.pg_roles WHERE rolname = $1`, w.name).Scan(&powerful, &member, &admin)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return w, fmt.Errorf("read role %s: %w", w.name, err)
	}
	w.exists, w.member = err == nil, member || s.superuser

	const instead = "the trigger functions are owned by "
	refuse := func(why string) (writer, error) {
		return writer{notes: []string{instead + s.role + ", with its rights: " + why}}, nil
	}
	switch {
	case powerful:
		return refuse(fmt.Sprintf("role %s can do more than write the outbox (make it NOLOGIN without attributes)", w.name))
	case !w.exists && !s.superuser && !s.createRole:
		return refuse(fmt.Sprintf("role %s does not exist and %s may not create it (CREATE ROLE %s NOLOGIN; GRANT %[3]s TO %s)",
			w.name, s.role, ident(w.name), ident(s.role)))
	case w.exists && !w.member && !admin && (s.version >= 160000 || !s.createRole):
		return refuse(fmt.Sprintf("%s is no member of role %s (GRANT %s TO %s)", s.role, w.name, ident(w.name), ident(s.role)))
	}
	if w.exists && in.schema && in.hasOutbox() {
		n := m.names
		err = q.QueryRow(ctx, `SELECT has_schema_privilege($1::name, $2::text, 'USAGE')
			AND has_table_privilege($1, $3::text, 'INSERT') AND has_table_privilege($1, $4::text, 'INSERT')
			AND has_sequence_privilege($1, $5::text, 'SELECT')
			AND has_sequence_privilege($1, $6::text, 'SELECT') AND has_sequence_privilege($1, $6::text, 'UPDATE')
			AND (to_regclass($7) IS NULL OR NOT $8 OR has_table_privilege($1, to_regclass($7), 'SELECT'))`,
			w.name, n.Schema(), n.Outbox(0), n.Outbox(1), n.Active(), n.Overflow(), n.Tables(), m.cfg.EventTrigger).Scan(&w.granted)
		if err != nil {
			return w, fmt.Errorf("read the rights of role %s: %w", w.name, err)
		}
	}
	return w, nil
}

// hasOutbox reports whether everything that triggers use exists.
func (in *installed) hasOutbox() bool {
	for name, kind := range map[string]byte{
		outboxTables[0]: kindTable, outboxTables[1]: kindTable, "active": 'S', "overflow": 'S',
	} {
		if in.relations[name] != kind {
			return false
		}
	}
	return true
}

// createRole makes a role that may exist already, perhaps made at this moment
// by the migration of another database of the cluster.
func createRole(name string) string {
	return fmt.Sprintf(`DO %s;`, dollarQuote(fmt.Sprintf(`
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %s) THEN
    CREATE ROLE %s NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- made for another database of the cluster at this moment
END
`, literal(name), ident(name))))
}

// agentGranted reports whether the agent's role has its rights already.
func (m *Migrator) agentGranted(ctx context.Context, q querier, in *installed) (bool, error) {
	var exists bool
	if err := q.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", m.cfg.AgentRole).Scan(&exists); err != nil {
		return false, fmt.Errorf("read role %s: %w", m.cfg.AgentRole, err)
	}
	if !exists {
		return false, fmt.Errorf("role %s of the agent does not exist (CREATE ROLE %s LOGIN)", m.cfg.AgentRole, ident(m.cfg.AgentRole))
	}
	if _, ok := in.functions[recordFunction]; !ok || !in.complete(baseObjects(m.names)) {
		return false, nil
	}
	n := m.names
	var granted bool
	err := q.QueryRow(ctx, `SELECT has_schema_privilege($1::name, $2::text, 'USAGE')
		AND (SELECT bool_and(has_table_privilege($1, o, 'SELECT') AND has_table_privilege($1, o, 'TRUNCATE')) FROM unnest($3::text[]) o)
		AND (SELECT bool_and(has_table_privilege($1, o, 'SELECT')) FROM unnest($4::text[]) o)
		AND (SELECT bool_and(has_table_privilege($1, o, p)) FROM unnest($5::text[]) o, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p)
		AND (SELECT bool_and(has_sequence_privilege($1, o, 'SELECT') AND has_sequence_privilege($1, o, 'UPDATE')) FROM unnest($6::text[]) o)
		AND has_function_privilege($1, $7::text, 'EXECUTE')`,
		m.cfg.AgentRole, n.Schema(), []string{n.Outbox(0), n.Outbox(1)}, []string{n.Ident("outbox"), n.Tables(), n.Meta()},
		[]string{n.Cursor(), n.Rules(), n.Purges()}, []string{n.Active(), n.Overflow()}, n.Ident(recordFunction)+`(oid, "char", jsonb)`).Scan(&granted)
	if err != nil {
		return false, fmt.Errorf("read the rights of role %s: %w", m.cfg.AgentRole, err)
	}
	return granted, nil
}

// complete reports whether every object exists.
func (in *installed) complete(objects []object) bool {
	for _, o := range objects {
		if !in.has(o) {
			return false
		}
	}
	return true
}

func (in *installed) has(o object) bool {
	switch o.class {
	case "schema":
		return in.schema
	case "view":
		return in.relations[o.name] == 'v'
	case "sequence":
		return in.relations[o.name] == 'S'
	}
	return in.relations[o.name] == kindTable
}
