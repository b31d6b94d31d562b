package migrations

import (
	"fmt"
	"slices"
	"strings"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// eventTrigger is an event trigger as it should be. They see what triggers on
// tables cannot: partitions that come and go, tables that are dropped, values
// that ALTER TABLE computes anew.
type eventTrigger struct {
	name     string
	event    string
	function string
	tags     []string // sorted; empty for all commands
}

// The operations that event triggers and their functions are named after.
const (
	ddlStart = "ddl_start"
	ddlEnd   = "ddl_end"
	ddlDrop  = "ddl_drop"
)

// Commands that change what a mapped table holds or, for types, how it reads.
// CREATE TRIGGER counts for triggers of icache alone: until there was one,
// changes may have gone unseen.
var (
	alterTags = []string{"ALTER TABLE", "ALTER TYPE", "CREATE FOREIGN TABLE", "CREATE TRIGGER"}
	startTags = []string{"ALTER TABLE", "DROP EXTENSION", "DROP FOREIGN TABLE", "DROP OWNED", "DROP SCHEMA", "DROP TABLE", "DROP TYPE"}
)

func eventTriggers(n outbox.Names) []*eventTrigger {
	name := func(operation string) string { return triggerName(n.Schema(), operation) }
	return []*eventTrigger{
		{name(ddlStart), "ddl_command_start", ddlStart, startTags},
		{name(ddlEnd), "ddl_command_end", ddlEnd, alterTags},
		{name(ddlDrop), "sql_drop", ddlDrop, nil}, // whatever drops a table or a column
	}
}

func (t *eventTrigger) create(n outbox.Names) string {
	var when string
	if len(t.tags) > 0 {
		when = "\n  WHEN TAG IN ('" + strings.Join(t.tags, "', '") + "')"
	}
	return fmt.Sprintf("CREATE EVENT TRIGGER %s ON %s%s\n  EXECUTE FUNCTION %s();", ident(t.name), t.event, when, n.Ident(t.function))
}

func dropEventTrigger(name, ifExists string) string {
	return fmt.Sprintf("DROP EVENT TRIGGER %s%s;", ifExists, ident(name))
}

// eventFunctions returns the functions of the event triggers. None of them can
// fail a command: a change that cannot be recorded is a warning.
//
// A partition that is dropped, or a child that inherits no more, has lost its
// parent by the time that a function could ask for it. So what is below each
// mapped table is noted before the command, in a setting that is local to the
// transaction, as oids: {"below": mapped}.
func eventFunctions(n outbox.Names) []*function {
	setting := literal("icache.below_" + digest(n.Schema()))
	replace := strings.NewReplacer(
		"@tables", n.Tables(),
		"@record", n.Ident(recordFunction),
		"@schema", literal(ident(n.Schema())),
		"@end", ddlEnd,
		"@row", literal(triggerName(n.Schema(), rowOperation)),
		"@setting", setting,
		// An operation that the rule covers, or the agent would pass over it.
		"@op", `(CASE WHEN t.definition::jsonb->'on' ? 'truncate' THEN 'T' ELSE upper(left(t.definition::jsonb->'on'->>0, 1)) END)::"char"`,
		"@below", `coalesce(nullif(current_setting(`+setting+`, true), ''), '{}')::jsonb`,
	).Replace
	guarded := func(name, declare, body string) *function {
		return &function{name: name, returns: "event_trigger", settings: []string{searchPath}, source: replace(fmt.Sprintf(`%sBEGIN
%sEXCEPTION WHEN OTHERS THEN -- never fail the command
  RAISE WARNING 'icache: %% could not be recorded, run icache-agent bump --all: %%', tg_tag, SQLERRM;
END
`, declare, body))}
	}
	const record = "DECLARE\n  icache_change record;\n"
	return []*function{
		guarded(ddlStart, "", `  PERFORM set_config(@setting, (WITH RECURSIVE below(oid, mapped) AS (
      SELECT relation::oid, relation::oid FROM @tables
      UNION SELECT i.inhrelid, b.mapped FROM below AS b JOIN pg_inherits AS i ON i.inhparent = b.oid)
    SELECT coalesce(jsonb_object_agg(oid, mapped), '{}')::text FROM below), true);
`),
		guarded(ddlEnd, record, `  FOR icache_change IN
    WITH RECURSIVE command AS MATERIALIZED (SELECT classid, objid FROM pg_event_trigger_ddl_commands()),
    changed(oid) AS (
      SELECT objid FROM command WHERE classid = 'pg_class'::regclass
      UNION SELECT g.tgrelid FROM command AS c JOIN pg_trigger AS g ON g.oid = c.objid JOIN pg_proc AS p ON p.oid = g.tgfoid
       WHERE c.classid = 'pg_trigger'::regclass AND p.pronamespace = @schema::regnamespace
      UNION SELECT d.objid FROM command AS c
        JOIN pg_type AS y ON c.classid = 'pg_type'::regclass AND y.oid = c.objid OR c.classid = 'pg_class'::regclass AND y.typrelid = c.objid
        JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_type'::regclass AND d.refobjid IN (y.oid, y.typarray)),
    above(oid) AS (SELECT oid FROM changed UNION SELECT i.inhparent FROM above AS a JOIN pg_inherits AS i ON i.inhrelid = a.oid),
    below(oid) AS (SELECT oid FROM changed UNION SELECT i.inhrelid FROM below AS b JOIN pg_inherits AS i ON i.inhparent = b.oid),
    was_below(oid) AS (SELECT (@below->>oid::text)::oid FROM changed)
    SELECT DISTINCT ON (t.name) t.relation::oid AS relation, @op AS op FROM @tables AS t
     WHERE t.relation::oid IN (SELECT oid FROM above UNION SELECT oid FROM below UNION SELECT oid FROM was_below)
     ORDER BY t.name, t.relation
  LOOP
    PERFORM @record(icache_change.relation, icache_change.op, NULL);
  END LOOP;
`),
		// A partition of an unknown table, by its copy of a row-level trigger, stands
		// for itself: the agent, which cannot name it, outdates everything.
		guarded(ddlDrop, record, `  FOR icache_change IN
    WITH dropped AS MATERIALIZED (SELECT * FROM pg_event_trigger_dropped_objects()),
    gone AS (SELECT objid, schema_name, object_name, (@below->>objid::text)::oid AS was_below FROM dropped
       WHERE classid = 'pg_class'::regclass AND (objsubid = 0 OR tg_tag LIKE 'DROP %')), -- else it is ALTER, which @end sees
    mapped AS (
      SELECT DISTINCT ON (t.name) t.relation::oid AS relation, @op AS op FROM @tables AS t
       WHERE t.relation::oid IN (SELECT objid FROM gone UNION SELECT was_below FROM gone)
       ORDER BY t.name, t.relation)
    SELECT relation, op FROM mapped
    UNION ALL SELECT DISTINCT g.objid, 'T'::"char" FROM gone AS g
      JOIN dropped AS d ON d.classid = 'pg_trigger'::regclass AND d.address_names[1:2] = ARRAY[g.schema_name, g.object_name]
     WHERE d.address_names[3] = @row AND g.was_below IS NULL
       AND NOT EXISTS (SELECT FROM @tables AS t WHERE t.relation::oid = g.objid)
  LOOP
    PERFORM @record(icache_change.relation, icache_change.op, NULL);
  END LOOP;
`),
	}
}

// eventTriggers compares the event triggers. Those that should not be there are
// removed first, since their functions go next; those that are missing are made
// last, so that they do not see the migration that makes them.
func (d *differ) eventTriggers() {
	for _, t := range d.want.eventTriggers {
		state, sql := StateMissing, t.create(d.m.names)
		if i := slices.IndexFunc(d.in.eventTriggers, func(have installedEventTrigger) bool { return have.name == t.name }); i >= 0 {
			have := d.in.eventTriggers[i]
			switch {
			case have.event != t.event || have.function != t.function || !slices.Equal(have.tags, t.tags):
				state, sql = StateEdited, dropEventTrigger(t.name, "")+"\n"+sql
			case have.enabled == 'O' || have.enabled == 'A':
				continue
			default:
				state, sql = StateDisabled, fmt.Sprintf("ALTER EVENT TRIGGER %s ENABLE;", ident(t.name))
			}
		}
		d.changes = append(d.changes, Change{State: state, Object: "event trigger " + t.name, SQL: sql, superuser: true})
	}
}

// leftEventTriggers removes those that nobody asks for.
func (d *differ) leftEventTriggers() {
	for _, have := range d.in.eventTriggers {
		if !slices.ContainsFunc(d.want.eventTriggers, func(t *eventTrigger) bool { return t.name == have.name }) {
			d.changes = append(d.changes, have.drop())
		}
	}
}

func (t *installedEventTrigger) drop() Change {
	return Change{State: StateUnmapped, Object: "event trigger " + t.name, SQL: dropEventTrigger(t.name, ""), superuser: true}
}

// whoMay says who can do what Postgres allows to superusers only.
const whoMay = "it takes a superuser, or on managed Postgres the administrator's role where the provider allows it (a member of rds_superuser, cloudsqlsuperuser, azure_pg_admin)"

// needsSuperuser says so once, if any of the changes does.
func needsSuperuser(changes []Change) []string {
	for _, c := range changes {
		if c.superuser {
			return []string{c.Object + ": " + whoMay}
		}
	}
	return nil
}
