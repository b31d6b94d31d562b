package migrations

import (
	"fmt"
	"strings"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// Version is the version of the database objects that this package makes.
const Version = 1

// object is one of the objects that do not depend on the rules.
type object struct {
	class string // schema, table, view, sequence or row
	name  string // unquoted, within the schema
	sql   string
}

// outboxTables, in the order of their numbers.
var outboxTables = [2]string{"outbox_0", "outbox_1"}

// baseObjects returns everything but functions and triggers, in the order of creation.
func baseObjects(n outbox.Names) []object {
	list := []object{{"schema", n.Schema(), fmt.Sprintf(
		"CREATE SCHEMA %s;\nREVOKE ALL ON SCHEMA %[1]s FROM PUBLIC;", ident(n.Schema()))}}
	add := func(class, name, format string) {
		list = append(list, object{class, name, strings.NewReplacer(
			"@lit", literal(n.Ident(name)), "@", n.Ident(name), "%0", n.Outbox(0), "%1", n.Outbox(1)).Replace(format)})
	}
	for _, name := range outboxTables {
		// Insert-only and emptied by TRUNCATE, so there is nothing to vacuum or analyze.
		add("table", name, `CREATE TABLE @ (
  xid      xid8   NOT NULL DEFAULT pg_current_xact_id(), -- of the top level, in subtransactions too
  relation oid    NOT NULL,
  op       "char" NOT NULL, -- I, U, D or T
  keys     jsonb            -- NULL: everything of the table
) WITH (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2147483647);
CREATE INDEX ON @ (xid);
REVOKE ALL ON @ FROM PUBLIC;`)
	}
	add("view", "outbox", `CREATE VIEW @ AS
  SELECT xid, relation::regclass AS relation, op, keys FROM %0
  UNION ALL SELECT xid, relation::regclass, op, keys FROM %1;
REVOKE ALL ON @ FROM PUBLIC;`)
	for _, name := range []string{"active", "overflow"} {
		add("sequence", name, `CREATE SEQUENCE @ MINVALUE 0 START 0;
REVOKE ALL ON @ FROM PUBLIC;
SELECT setval(@lit, 0);`)
	}
	// Unlogged, as a witness: a crash, a promotion or a restore empties it, a clean
	// restart does not. That is how the listener tells them apart.
	add("table", "cursor", `CREATE UNLOGGED TABLE @ (
  one               boolean     PRIMARY KEY DEFAULT true CHECK (one),
  system_identifier bigint      NOT NULL,
  timeline          text        NOT NULL,
  started           timestamptz NOT NULL,
  snap              pg_snapshot NOT NULL,
  updated_at        timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);
REVOKE ALL ON @ FROM PUBLIC;`)
	// As lasting as the cursor, which it belongs to: by what rules everything that
	// the cursor has passed was applied.
	add("table", "rules", `CREATE UNLOGGED TABLE @ (
  name text PRIMARY KEY,
  mark text NOT NULL
);
REVOKE ALL ON @ FROM PUBLIC;`)
	// Likewise: what has not been purged at a CDN of the changes that the cursor
	// has passed. Whatever empties it empties the cursor, and then everything is purged.
	add("table", "purges", `CREATE UNLOGGED TABLE @ (
  agent text NOT NULL, -- the process that will do it; another takes over what it left
  sink  text NOT NULL, -- the CDN, as the config names it
  key   text NOT NULL,
  since timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (agent, sink, key)
);
REVOKE ALL ON @ FROM PUBLIC;`)
	add("table", "tables", `CREATE TABLE @ (
  relation   regclass PRIMARY KEY,
  name       text NOT NULL, -- as the rules have it
  definition text NOT NULL
);
REVOKE ALL ON @ FROM PUBLIC;`)
	add("table", "meta", `CREATE TABLE @ (
  key   text PRIMARY KEY,
  value text NOT NULL
);
REVOKE ALL ON @ FROM PUBLIC;`)
	return list
}

// writerGrants returns what the owner of the trigger functions may do: write
// the outbox, and nothing else.
func (m *Migrator) writerGrants(writer string) []string {
	n, to := m.names, " TO "+ident(writer)+";"
	list := []string{
		"GRANT USAGE ON SCHEMA " + ident(n.Schema()) + to,
		"GRANT INSERT ON " + n.Outbox(0) + ", " + n.Outbox(1) + to,
		"GRANT SELECT ON SEQUENCE " + n.Active() + to,
		"GRANT SELECT, UPDATE ON SEQUENCE " + n.Overflow() + to,
	}
	if m.cfg.EventTrigger { // which has to know what is mapped
		list = append(list, "GRANT SELECT ON "+n.Tables()+to)
	}
	return list
}

// agentGrants returns what the agent's role needs, except for the tables that
// it looks foreign keys up in.
func agentGrants(n outbox.Names, role string) []string {
	to := " TO " + ident(role) + ";"
	return []string{
		"GRANT USAGE ON SCHEMA " + ident(n.Schema()) + to,
		"GRANT SELECT, TRUNCATE ON " + n.Outbox(0) + ", " + n.Outbox(1) + to,
		"GRANT SELECT ON " + n.Ident("outbox") + ", " + n.Tables() + ", " + n.Meta() + to,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON " + n.Cursor() + ", " + n.Rules() + ", " + n.Purges() + to,
		"GRANT SELECT, UPDATE ON SEQUENCE " + n.Active() + ", " + n.Overflow() + to,
		"GRANT EXECUTE ON FUNCTION " + n.Ident(recordFunction) + `(oid, "char", jsonb)` + to,
	}
}
