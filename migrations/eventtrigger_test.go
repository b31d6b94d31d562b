package migrations_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

// ddl is setup with event triggers.
func ddl(t *testing.T, ddl string, rules ...mapping.Rule) *bench {
	t.Helper()
	b := setup(t, ddl, rules...)
	b.cfg.EventTrigger = true
	b.upToDateAfterUp()
	require.Empty(t, b.drain(), "a migration does not see itself")
	return b
}

// oid is for tables that are about to go.
func (b *bench) oid(table string) string {
	b.Helper()
	var oid string
	require.NoError(b, b.conn.QueryRow(b.ctx, `SELECT $1::text::regclass::oid::text`, table).Scan(&oid))
	return oid
}

const events = `CREATE TABLE events (id int, day int, v int) PARTITION BY LIST (day);
	CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
	CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2) PARTITION BY LIST (id);
	CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES IN (1);
	INSERT INTO events VALUES (1, 1), (1, 2);
	CREATE TABLE loose (id int, day int, v int); INSERT INTO loose VALUES (3, 3);
	CREATE SCHEMA other; CREATE TABLE other.a (id int); CREATE TABLE other.b (id int); CREATE TYPE mood AS ENUM ('ok');
	CREATE TYPE mine AS (a int);
	CREATE TABLE base (id int, m mood, ms mood[]); CREATE TABLE typed OF mine`

// TestEventTrigger: each command that changes what a table holds, unseen by the
// triggers on the table.
func TestEventTrigger(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before, sql string
		of          []string // tables that count as changed
	}{
		"attach":                       {"", `ALTER TABLE events ATTACH PARTITION loose FOR VALUES IN (3)`, []string{"events"}},
		"attach below":                 {`UPDATE loose SET day = 2`, `ALTER TABLE events_2 ATTACH PARTITION loose FOR VALUES IN (3)`, []string{"events"}},
		"detach":                       {"", `ALTER TABLE events DETACH PARTITION events_1`, []string{"events"}},
		"detach below":                 {"", `ALTER TABLE events_2 DETACH PARTITION events_2a`, []string{"events"}},
		"drop partition":               {"", `DROP TABLE events_1`, []string{"events"}},
		"drop partition below":         {"", `DROP TABLE events_2a`, []string{"events"}},
		"drop branch":                  {"", `DROP TABLE events_2`, []string{"events"}},
		"drop partition made since":    {`CREATE TABLE events_4 PARTITION OF events FOR VALUES IN (4)`, `DROP TABLE events_4`, []string{"events"}},
		"drop all":                     {"", `DROP TABLE events`, []string{"events"}},
		"drop":                         {"", `DROP TABLE base`, []string{"base"}},
		"drop two":                     {"", `DROP TABLE base, events_1`, []string{"base", "events"}},
		"drop schema":                  {"", `DROP SCHEMA other CASCADE`, []string{"other.a"}},
		"drop owned":                   {`CREATE ROLE @role; ALTER TABLE base OWNER TO @role`, `DROP OWNED BY @role; DROP ROLE @role`, []string{"base"}},
		"drop type":                    {"", `DROP TYPE mood CASCADE`, []string{"base"}},
		"drop and roll back":           {"", `SAVEPOINT a; DROP TABLE base; ALTER TABLE events DETACH PARTITION events_1; ROLLBACK TO a`, nil},
		"roll back to savepoint":       {"", `SAVEPOINT a; DROP TABLE base; ROLLBACK TO a; DROP TABLE events_1`, []string{"events"}},
		"in a function":                {"", `DO $$ BEGIN EXECUTE 'DROP TABLE events_1'; END $$`, []string{"events"}},
		"rewrite":                      {"", `ALTER TABLE base ALTER id TYPE text USING 'x' || id`, []string{"base"}},
		"rewrite of partitions":        {"", `ALTER TABLE events ALTER v TYPE bigint`, []string{"events"}},
		"rewrite of one partition":     {"", `ALTER TABLE events_1 ALTER v SET DEFAULT 7`, []string{"events"}},
		"default":                      {"", `ALTER TABLE base ADD COLUMN more int DEFAULT 1`, []string{"base"}},
		"drop column":                  {"", `ALTER TABLE base DROP COLUMN m`, []string{"base"}},
		"inherit":                      {`CREATE TABLE child (LIKE base)`, `ALTER TABLE child INHERIT base`, []string{"base"}},
		"no inherit":                   {`CREATE TABLE child () INHERITS (base)`, `ALTER TABLE child NO INHERIT base`, []string{"base"}},
		"drop child":                   {`CREATE TABLE child () INHERITS (base)`, `DROP TABLE child`, []string{"base"}},
		"parent":                       {`CREATE TABLE top (id int, m mood, ms mood[]); ALTER TABLE base INHERIT top`, `ALTER TABLE top ALTER id TYPE bigint`, []string{"base"}},
		"triggers were disabled":       {`ALTER TABLE base DISABLE TRIGGER ALL`, `ALTER TABLE base ENABLE TRIGGER ALL`, []string{"base"}},
		"trigger was missing":          {`CREATE TEMP TABLE def AS SELECT pg_get_triggerdef(oid) AS d FROM pg_trigger WHERE tgrelid = 'base'::regclass AND tgname = 'icache_update'; DROP TRIGGER icache_update ON base`, `DO $$ BEGIN EXECUTE (SELECT d FROM def); END $$`, []string{"base"}},
		"trigger of somebody else":     {`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'`, `CREATE TRIGGER x AFTER INSERT ON base FOR EACH ROW EXECUTE FUNCTION f()`, nil},
		"enum value renamed":           {"", `ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'`, []string{"base"}},
		"typed table":                  {"", `ALTER TYPE mine ALTER ATTRIBUTE a TYPE bigint CASCADE`, []string{"typed"}},
		"tables without a rule":        {"", `ALTER TABLE loose ADD x int; DROP TABLE loose, other.b; CREATE TABLE y (); CREATE TEMP TABLE z (); DROP TABLE y, z`, nil},
		"a new partition is empty":     {"", `CREATE TABLE events_5 PARTITION OF events FOR VALUES IN (5)`, nil},
		"rule without truncate":        {"", `ALTER TABLE other.a ADD x int`, []string{"other.a"}},
		"trigger with an unknown past": {`CREATE TABLE x (); CREATE TRIGGER icache_row AFTER TRUNCATE ON x FOR EACH STATEMENT EXECUTE FUNCTION icache.record_truncate()`, `DROP TABLE x`, []string{"x"}},
	}
	insertOnly := rule("other.a", "a:{id}")
	insertOnly.On = []mapping.Op{mapping.Delete, mapping.Insert}
	b := ddl(t, events, rule("events", "event:{id}"), rule("base", "base:{id}"), rule("typed", "typed"), insertOnly)
	role := servertest.Prefix(t) + "gone"
	for name, test := range tests { // each is undone at the end
		b.exec("BEGIN")
		b.exec(strings.ReplaceAll(test.before, "@role", role))
		b.drain()
		want := []row{}
		for _, table := range test.of {
			op := "T"
			if table == "other.a" {
				op = "I"
			}
			want = append(want, row{b.oid(table), op, "unknown"})
		}
		b.exec(strings.ReplaceAll(test.sql, "@role", role))
		for i := range want { // regclass is the name of what exists
			require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT $1::text::oid::regclass::text`, want[i].Table).Scan(&want[i].Table))
		}
		require.ElementsMatch(t, want, b.drain(), name)
		b.exec("ROLLBACK")
	}
}

// TestEventTriggerDetachConcurrently takes two transactions; the second one records.
func TestEventTriggerDetachConcurrently(t *testing.T) {
	t.Parallel()
	b := ddl(t, events, rule("events", "event:{id}"))
	require.Equal(t, []row{{"events", "T", "unknown"}}, b.took(`ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY`))
	require.Empty(t, b.took(`DROP TABLE events_1`), "nobody misses it any more")
}

// TestEventTriggerFailsNoCommand whatever is wrong with what it needs.
func TestEventTriggerFailsNoCommand(t *testing.T) {
	t.Parallel()
	b := ddl(t, events, rule("events", "event:{id}"), rule("base", "base:{id}"))
	for name, breakage := range map[string]string{
		"outbox not writable":   `REVOKE INSERT ON icache.outbox_0 FROM icache_writer`,
		"outbox dropped":        `DROP TABLE icache.outbox_0 CASCADE`,
		"record dropped":        `DROP FUNCTION icache.record`,
		"tables dropped":        `DROP TABLE icache.tables`,
		"tables not readable":   `REVOKE SELECT ON icache.tables FROM icache_writer`,
		"schema not usable":     `REVOKE USAGE ON SCHEMA icache FROM icache_writer`,
		"definition broken":     `UPDATE icache.tables SET definition = 'edited'`,
		"note of another":       `SET LOCAL "icache.below_20f12ab5" = 'no json'`,
		"everything is dropped": `DROP SCHEMA icache CASCADE`,
	} {
		b.exec("BEGIN; " + breakage)
		for _, sql := range []string{
			`ALTER TABLE events DETACH PARTITION events_1`, `DROP TABLE events_2`, `ALTER TABLE events ATTACH PARTITION loose FOR VALUES IN (3)`,
			`DROP TABLE base`, `CREATE VIEW v AS SELECT 1`, `DROP VIEW v`, `DROP SCHEMA other CASCADE`,
		} {
			_, err := b.conn.Exec(b.ctx, sql)
			require.NoError(t, err, "%s: %s", name, sql)
		}
		b.exec("ROLLBACK")
	}
}

// TestEventTriggerWarns when it cannot record.
func TestEventTriggerWarns(t *testing.T) {
	t.Parallel()
	b := ddl(t, films, filmRule())
	b.exec(`REVOKE INSERT ON icache.outbox_0 FROM icache_writer`)
	cfg := b.conn.Config().Copy()
	var notices []*pgconn.Notice
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n) }
	conn, err := pgx.ConnectConfig(b.ctx, cfg)
	require.NoError(t, err)
	defer conn.Close(b.background())
	_, err = conn.Exec(b.ctx, `ALTER TABLE films ADD more int`)
	require.NoError(t, err)
	require.Len(t, notices, 1)
	require.Equal(t, "WARNING", notices[0].Severity)
	require.Equal(t, "icache: ALTER TABLE could not be recorded, run icache-agent bump --all: permission denied for table outbox_0", notices[0].Message)
}

// TestEventTriggerForOthers: the roles that change tables have no rights on the outbox.
func TestEventTriggerForOthers(t *testing.T) {
	t.Parallel()
	b := ddl(t, events, rule("events", "event:{id}"), rule("base", "base"))
	owner := b.role("")
	b.exec(`GRANT CREATE ON SCHEMA public TO ` + owner + `; ALTER TABLE events OWNER TO ` + owner + `; ALTER TABLE events_1 OWNER TO ` + owner + `; ALTER TABLE base OWNER TO ` + owner)
	b.drain()
	base := b.oid("base")
	conn := b.as(owner)
	_, err := conn.Exec(b.ctx, `CREATE TEMP TABLE tables (); SET search_path = pg_temp, public; ALTER TABLE events DETACH PARTITION events_1; DROP TABLE base; DROP TABLE events_1`)
	require.NoError(t, err)
	require.Equal(t, []row{{"events", "T", "unknown"}, {base, "T", "unknown"}}, b.drain(), "what was detached before is dropped without notice")
}

func TestEventTriggerDrift(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sql   string
		state migrations.State
		name  string
	}{
		"dropped":             {`DROP EVENT TRIGGER icache_ddl_end`, migrations.StateMissing, "event trigger icache_ddl_end"},
		"disabled":            {`ALTER EVENT TRIGGER icache_ddl_drop DISABLE`, migrations.StateDisabled, "event trigger icache_ddl_drop"},
		"replicas only":       {`ALTER EVENT TRIGGER icache_ddl_drop ENABLE REPLICA`, migrations.StateDisabled, "event trigger icache_ddl_drop"},
		"other tags":          {`DROP EVENT TRIGGER icache_ddl_end; CREATE EVENT TRIGGER icache_ddl_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION icache.ddl_end()`, migrations.StateEdited, "event trigger icache_ddl_end"},
		"other function":      {`DROP EVENT TRIGGER icache_ddl_drop; CREATE EVENT TRIGGER icache_ddl_drop ON sql_drop EXECUTE FUNCTION icache.ddl_start()`, migrations.StateEdited, "event trigger icache_ddl_drop"},
		"another one":         {`CREATE EVENT TRIGGER mine ON sql_drop EXECUTE FUNCTION icache.ddl_drop()`, migrations.StateUnmapped, "event trigger mine"},
		"function edited":     {`CREATE OR REPLACE FUNCTION icache.ddl_drop() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN END'`, migrations.StateEdited, "function icache.ddl_drop"},
		"right of the writer": {`REVOKE SELECT ON icache.tables FROM icache_writer`, migrations.StateMissing, "rights of role icache_writer"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := ddl(t, events, rule("base", "base"))
			b.exec(test.sql)
			status, err := b.migrator().Status(b.ctx)
			require.NoError(t, err)
			require.True(t, status.Drift())
			require.Equal(t, []migrations.Difference{{Object: test.name, State: test.state}}, status.Objects)
			b.upToDateAfterUp()
			require.Equal(t, []row{{"base", "T", "unknown"}}, b.took(`ALTER TABLE base ADD more int`))
		})
	}
}

// TestEventTriggerComesAndGoes with the config, and with down.
func TestEventTriggerComesAndGoes(t *testing.T) {
	t.Parallel()
	b := ddl(t, events, rule("base", "base"))
	b.cfg.EventTrigger = false
	status, err := b.migrator().Status(b.ctx)
	require.NoError(t, err)
	require.Contains(t, status.Objects, migrations.Difference{Object: "event trigger icache_ddl_end", State: migrations.StateUnmapped})
	b.upToDateAfterUp()
	require.Empty(t, b.took(`ALTER TABLE base ADD more int`))

	b.cfg.EventTrigger = true
	b.upToDateAfterUp()
	b.cfg.EventTrigger = false // down removes what is there, whatever it is told
	_, err = b.migrator().Down(b.ctx)
	require.NoError(t, err)
	b.requireClean()
}

// TestEventTriggerOfOthersOnly: whoever may not create event triggers is told
// who may; once one has, the rest is as without them.
func TestEventTriggerOfOthersOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, films)
	_, err := b.migrator().Down(b.ctx)
	require.NoError(t, err)
	migrating := b.role("CREATEROLE")
	b.exec(`ALTER TABLE films OWNER TO ` + migrating + `; DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO ` + migrating + `', current_database()); END $$`)
	b.cfg.WriterRole = migrating + "_writer"
	b.Cleanup(func() { b.dropRole(b.cfg.WriterRole) })
	b.cfg.EventTrigger = true
	b.rules(filmRule())
	super := b.conn
	b.conn = b.as(migrating)
	plan, err := b.migrator().Plan(b.ctx)
	require.NoError(t, err)
	require.Contains(t, join(plan.Notes), "event trigger icache_ddl_start: it takes a superuser, or on managed Postgres")
	_, err = b.migrator().Up(b.ctx)
	require.ErrorContains(t, err, "event trigger icache_ddl_start: ERROR: permission denied to create event trigger")
	require.ErrorContains(t, err, "rds_superuser")
	require.ErrorContains(t, err, "postgres.event_trigger")

	b.cfg.EventTrigger = false
	b.upToDateAfterUp()
	b.conn, b.cfg.EventTrigger = super, true
	b.upToDateAfterUp()
	b.conn = b.as(migrating)
	b.rules(rule("films", "film:{title}"))
	b.upToDateAfterUp()
	status, err := b.migrator().Status(b.ctx)
	require.NoError(t, err)
	require.False(t, status.Drift(), "%v", status)
	_, err = b.migrator().Down(b.ctx)
	require.ErrorContains(t, err, "it takes a superuser")
	b.conn = super
	_, err = b.migrator().Down(b.ctx)
	require.NoError(t, err)
	b.requireClean()
}
