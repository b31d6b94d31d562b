package migrations_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

func filmRule() mapping.Rule { return rule("films", "films", "film:{id}", "genre:{genre}") }

// TestSchemaDrift: a write never fails because the table is not what it was.
func TestSchemaDrift(t *testing.T) {
	t.Parallel()
	unknown := func(op string) row { return row{"films", op, "unknown"} }
	tests := map[string]string{
		"drop a key":             `ALTER TABLE films DROP COLUMN genre`,
		"rename a key":           `ALTER TABLE films RENAME genre TO kind`,
		"drop the primary key":   `ALTER TABLE films DROP COLUMN id; ALTER TABLE films ADD COLUMN nr int`,
		"rename the primary key": `ALTER TABLE films RENAME id TO nr`,
	}
	for name, ddl := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, films, filmRule())
			b.took(`ALTER TABLE films ALTER id SET DEFAULT 12; UPDATE films SET seen = 1; UPDATE films SET seen = 1 WHERE id = 1; INSERT INTO films VALUES (11); DELETE FROM films WHERE id = 11`)
			b.exec(ddl) // in the session that has the plans cached
			require.Equal(t, []row{unknown("I"), unknown("U"), unknown("U"), unknown("D")},
				b.took(`INSERT INTO films (title) VALUES ('x'); UPDATE films SET seen = 2 WHERE title = 'x'; UPDATE films SET seen = 3; DELETE FROM films`), name)
			require.Empty(t, b.took(`UPDATE films SET seen = 3; DELETE FROM films`), "no rows")

			status, err := b.migrator().Status(b.ctx)
			require.NoError(t, err)
			require.True(t, status.Drift())
			require.Equal(t, migrations.StateBroken, status.Tables[0].State)
			_, err = b.migrator().Up(b.ctx)
			require.ErrorAs(t, err, new(*migrations.CheckError))
		})
	}
}

// TestTypeDrift: a column may change its type while sessions hold cached plans.
func TestTypeDrift(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	b.took(`UPDATE films SET seen = 1; UPDATE films SET seen = 2 WHERE id = 1`)
	b.exec(`ALTER TABLE films ALTER genre TYPE text USING 'g' || genre`)
	require.Equal(t, []row{{"films", "U", `{"genre":"g1","id":"1"}`}, {"films", "U", `{"genre":"g1","id":"1"} {"genre":"g2","id":"2"}`}},
		b.took(`UPDATE films SET seen = 7 WHERE id = 1; UPDATE films SET seen = 8 WHERE id < 3`))
}

func TestRowLevelSchemaDrift(t *testing.T) {
	t.Parallel()
	b := setup(t, measurements, rule("m", "m:{id}", "v:{v}"))
	b.took(`UPDATE m SET v = 5`)
	b.exec(`ALTER TABLE m DROP COLUMN v`)
	for _, sql := range []string{`INSERT INTO m VALUES (3, 3)`, `UPDATE m SET id = id + 10`, `DELETE FROM m`} {
		require.Equal(t, []row{{"m", sql[:1], "unknown"}}, b.took(sql))
	}
}

func TestStatusNamesDrift(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sql    string
		state  migrations.State
		object string // that the difference names; empty for a difference of no table
	}{
		"trigger dropped":  {`DROP TRIGGER icache_update ON films`, migrations.StateMissing, "trigger icache_update on public.films"},
		"trigger disabled": {`ALTER TABLE films DISABLE TRIGGER icache_truncate`, migrations.StateDisabled, "trigger icache_truncate on public.films"},
		"all disabled":     {`ALTER TABLE films DISABLE TRIGGER ALL`, migrations.StateDisabled, "trigger icache_insert on public.films"},
		"trigger replaced": {`CREATE OR REPLACE TRIGGER icache_insert AFTER DELETE ON films FOR EACH ROW EXECUTE FUNCTION icache.record_truncate()`,
			migrations.StateStale, "trigger icache_insert on public.films"},
		"trigger fires always": {`ALTER TABLE films ENABLE ALWAYS TRIGGER icache_delete`, migrations.StateStale, "trigger icache_delete on public.films"},
		"function edited": {`DO $$ BEGIN EXECUTE replace(pg_get_functiondef('icache.public_films_update'::regproc), '1001', '5'); END $$`,
			migrations.StateEdited, "function icache.public_films_update"},
		"function emptied": {`CREATE OR REPLACE FUNCTION icache.public_films_update() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
			migrations.StateEdited, "function icache.public_films_update"},
		"function not definer":    {`ALTER FUNCTION icache.public_films_update() SECURITY INVOKER`, migrations.StateEdited, "function icache.public_films_update"},
		"function search path":    {`ALTER FUNCTION icache.public_films_update() SET search_path = public`, migrations.StateEdited, "function icache.public_films_update"},
		"function of another":     {`ALTER FUNCTION icache.public_films_update() OWNER TO CURRENT_USER`, migrations.StateStale, "function icache.public_films_update"},
		"function for everybody":  {`GRANT EXECUTE ON FUNCTION icache.public_films_update() TO PUBLIC`, migrations.StateEdited, "function icache.public_films_update"},
		"function dropped":        {`DROP FUNCTION icache.public_films_update() CASCADE`, migrations.StateMissing, "function icache.public_films_update"},
		"primary key dropped":     {`ALTER TABLE films DROP CONSTRAINT films_pkey`, migrations.StateStale, "function icache.public_films_update"},
		"entry removed":           {`DELETE FROM icache.tables`, migrations.StateMissing, "entry for table public.films"},
		"right revoked":           {`REVOKE INSERT ON icache.outbox_1 FROM icache_writer`, migrations.StateMissing, ""},
		"sequence dropped":        {`DROP SEQUENCE icache.overflow`, migrations.StateMissing, ""},
		"record dropped":          {`DROP FUNCTION icache.record`, migrations.StateMissing, ""},
		"version lost":            {`DELETE FROM icache.meta`, migrations.StateMissing, ""},
		"table that has no rule":  {`CREATE TABLE x (); CREATE TRIGGER icache_truncate AFTER TRUNCATE ON x FOR EACH STATEMENT EXECUTE FUNCTION icache.record_truncate()`, migrations.StateUnmapped, ""},
		"table dropped and again": {`DROP TABLE films; ` + films, migrations.StateMissing, "trigger icache_update on public.films"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, films, filmRule())
			status, err := b.migrator().Status(b.ctx)
			require.NoError(t, err)
			require.False(t, status.Drift())
			require.Equal(t, []migrations.TableStatus{{Table: "public.films", State: migrations.StateOK}}, status.Tables)

			b.exec(test.sql)
			status, err = b.migrator().Status(b.ctx)
			require.NoError(t, err)
			require.True(t, status.Drift())
			if test.object == "" {
				require.Equal(t, test.state, status.Objects[0].State)
				require.Equal(t, migrations.StateOK, status.Tables[0].State)
			} else {
				require.Equal(t, test.state, status.Tables[0].State)
				require.Contains(t, status.Tables[0].Differences, migrations.Difference{Object: test.object, State: test.state})
			}
			b.upToDateAfterUp()
			require.Equal(t, []row{{"films", "U", `{"genre":"1","id":"1"}`}}, b.took(`UPDATE films SET seen = seen + 1 WHERE id = 1`))
		})
	}
}

func TestPartitionTriggerDisabled(t *testing.T) {
	t.Parallel()
	b := setup(t, measurements, rule("m", "m:{id}"))
	b.exec(`ALTER TABLE m2a DISABLE TRIGGER icache_row`)
	status, err := b.migrator().Status(b.ctx)
	require.NoError(t, err)
	require.Equal(t, migrations.StateDisabled, status.Tables[0].State)
	b.upToDateAfterUp()
	require.Equal(t, []row{{"m2a", "U", `{"id":"2"}`}}, b.took(`UPDATE m SET v = 5 WHERE id = 2`))
}

// TestRulesChange goes from one config to others, and back.
func TestRulesChange(t *testing.T) {
	t.Parallel()
	b := setup(t, films+"; CREATE TABLE people (id int PRIMARY KEY)", filmRule(), rule("people", "people"))
	b.upToDateAfterUp()

	b.rules(rule("films", "film:{title}"))
	status, err := b.migrator().Status(b.ctx)
	require.NoError(t, err)
	require.Equal(t, migrations.StateStale, status.Tables[0].State)
	require.Equal(t, migrations.StateUnmapped, status.Tables[1].State, "%v", status)
	b.upToDateAfterUp()
	require.Equal(t, []row{{"films", "U", `{"title":"film 1"}`}}, b.took(`UPDATE films SET seen = seen + 1 WHERE id = 1; INSERT INTO people VALUES (1)`))

	always := rule("films", "film:{id}")
	always.Always, always.On = true, []mapping.Op{mapping.Update}
	b.rules(always)
	b.upToDateAfterUp()
	require.Equal(t, []row{{"films", "U", `{"id":"1"}`}}, b.took(`UPDATE films SET seen = seen + 1 WHERE id = 1; DELETE FROM films WHERE id = 2; TRUNCATE films`))

	b.rules(filmRule())
	b.upToDateAfterUp()
	b.rules()
	b.upToDateAfterUp()
	require.Empty(t, b.took(films[len("CREATE TABLE films (id int PRIMARY KEY, genre int, title text, seen int NOT NULL DEFAULT 0);"):]))
}

func TestRenamedTable(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	b.exec(`ALTER TABLE films RENAME TO movies`)
	require.Equal(t, []row{{"movies", "U", `{"genre":"1","id":"1"}`}}, b.took(`UPDATE movies SET seen = 1 WHERE id = 1`))
	_, err := b.migrator().Plan(b.ctx)
	require.ErrorContains(t, err, "table public.films does not exist (it was renamed to public.movies)")

	b.rules(rule("movies", "film:{id}"))
	b.upToDateAfterUp()
	require.Equal(t, []row{{"movies", "U", `{"id":"1"}`}}, b.took(`UPDATE movies SET seen = 2 WHERE id = 1`))
	var name string
	var functions int
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT name, (SELECT count(*) FROM pg_proc WHERE proname LIKE 'public_films%') FROM icache.tables`).Scan(&name, &functions))
	require.Equal(t, "public.movies", name)
	require.Zero(t, functions)
}

func TestPlanAndUpAreIdempotent(t *testing.T) {
	t.Parallel()
	b := setup(t, films+";"+measurements+"; CREATE TABLE p (id int); CREATE TABLE c () INHERITS (p)", filmRule(), rule("m", "m:{id}"), rule("p", "p:{id}"))
	plan, err := b.migrator().Plan(b.ctx)
	require.NoError(t, err)
	require.True(t, plan.Empty(), plan.SQL())

	// Nothing to do: not even a table that is locked by others is waited for.
	other := b.connect()
	_, err = other.Exec(b.ctx, "BEGIN; LOCK TABLE films, m, p IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	plan, err = b.migrator().Up(b.ctx)
	require.NoError(t, err)
	require.True(t, plan.Empty())
	_, err = b.migrator().Status(b.ctx)
	require.NoError(t, err)
}

func TestPlanSQLDoesWhatUpDoes(t *testing.T) {
	t.Parallel()
	b := &bench{T: t}
	*b = *setup(t, films+";"+measurements)
	b.rules(filmRule(), rule("m", "m:{id}"))
	plan, err := b.migrator().Plan(b.ctx)
	require.NoError(t, err)
	b.exec("BEGIN;" + plan.SQL() + "COMMIT")
	plan, err = b.migrator().Plan(b.ctx)
	require.NoError(t, err)
	require.True(t, plan.Empty(), plan.SQL())
}

func TestDown(t *testing.T) {
	t.Parallel()
	b := setup(t, films+";"+measurements, filmRule(), rule("m", "m:{id}"))
	b.exec(`DROP TABLE m2a; ALTER TABLE films DISABLE TRIGGER ALL; ALTER TABLE films RENAME TO movies`)
	b.rules() // what is removed does not depend on the rules
	_, err := b.migrator().Down(b.ctx)
	require.NoError(t, err)
	b.requireClean()
	plan, err := b.migrator().Down(b.ctx)
	require.NoError(t, err)
	require.True(t, plan.Empty() || plan.Changes[0].Object == "role icache_writer", "%v", plan.Changes)
	b.exec(`INSERT INTO movies VALUES (11)`)
}

func TestDownKeepsWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	b.exec(`CREATE TABLE icache.mine (id int)`)
	plan, err := b.migrator().Down(b.ctx)
	require.NoError(t, err)
	require.Contains(t, plan.Notes, "schema icache is kept: it holds objects that icache did not make")
	var left []string
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = 'icache'::regnamespace`).Scan(&left))
	require.Equal(t, []string{"mine"}, left)
	b.upToDateAfterUp()
}

// TestBusyTable: a table that somebody works on makes Up fail soon, and clearly.
func TestBusyTable(t *testing.T) {
	t.Parallel()
	b := setup(t, films+"; CREATE TABLE people (id int PRIMARY KEY)")
	b.rules(filmRule(), rule("people", "people"))
	b.cfg.LockTimeout = 300 * time.Millisecond
	other := b.connect()
	for _, table := range []string{"films", "people"} {
		_, err := other.Exec(b.ctx, "SET application_name = 'import'; BEGIN; LOCK TABLE "+table+" IN ROW EXCLUSIVE MODE")
		require.NoError(t, err)
		start := time.Now()
		_, err = b.migrator().Up(b.ctx)
		var busy *migrations.BusyError
		require.ErrorAs(t, err, &busy)
		require.Equal(t, "public."+table, busy.Table)
		require.Len(t, busy.Blockers, 1)
		require.Equal(t, "import", busy.Blockers[0].Application)
		require.Regexp(t, `^migrate up: public.`+table+` is busy: no lock within 300ms; held by pid \d+ import \(idle in transaction, transaction open for \ds\) \(try again`, err.Error())
		require.Less(t, time.Since(start), 5*time.Second)
		var installed int
		require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal`).Scan(&installed))
		require.Zero(t, installed, "all or nothing")
		_, err = other.Exec(b.ctx, "ROLLBACK")
		require.NoError(t, err)
	}
	b.upToDateAfterUp()
}

// TestMigratorsQueue: two at a time do not clash.
func TestMigratorsQueue(t *testing.T) {
	t.Parallel()
	b := setup(t, films)
	b.rules(filmRule())
	errs := make(chan error)
	for range 4 {
		conn := b.connect()
		go func() {
			m, err := migrations.New(conn, b.cfg)
			if err == nil {
				_, err = m.Up(b.ctx)
			}
			errs <- err
		}()
	}
	for range 4 {
		require.NoError(t, <-errs)
	}
	b.upToDateAfterUp()
}

func TestNewerVersion(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	b.exec(`UPDATE icache.meta SET value = '99'`)
	_, err := b.migrator().Up(b.ctx)
	require.ErrorAs(t, err, new(*migrations.VersionError))
	require.ErrorContains(t, err, "upgrade icache-agent")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	b := setup(t, "")
	for _, cfg := range []migrations.Config{
		{Schema: "pg_icache"}, {LockTimeout: -time.Second}, {SizeLimit: -1}, {Schema: string(make([]byte, 64))}, {WriterRole: "a\x00"},
	} {
		_, err := migrations.New(b.conn, cfg)
		require.Error(t, err)
	}
	_, err := migrations.New(nil, migrations.Config{})
	require.Error(t, err)
}

// TestObjects are what other parts of the program expect.
func TestObjects(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"", `My "schema"`, "a_schema_whose_name_is_as_long_as_a_name_can_be_in_postgres_123"} {
		b := &bench{T: t}
		*b = *setup(t, films)
		b.cfg.Schema = schema
		b.rules(filmRule())
		b.upToDateAfterUp()
		n := outbox.In(schema)
		require.Equal(t, []row{{"films", "U", `{"genre":"1","id":"1"}`}}, b.took(`UPDATE films SET seen = 1 WHERE id = 1`))
		var active, overflow int
		var version string
		require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT a.last_value, o.last_value, (SELECT value FROM `+n.Meta()+`) FROM `+n.Active()+` a, `+n.Overflow()+` o`).
			Scan(&active, &overflow, &version))
		require.Equal(t, []any{0, 0, "1"}, []any{active, overflow, version})
		b.exec(`INSERT INTO ` + n.Cursor() + ` (system_identifier, timeline, started, snap) VALUES (1, '1', now(), pg_current_snapshot())`)
		b.exec(`SELECT ` + n.Ident("record") + `('films'::regclass, 'U', '[{"id": "1"}]'); SELECT setval('` + n.Active() + `', 1)`)
		b.exec(`UPDATE films SET seen = 2 WHERE id = 1`)
		var where []string
		require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT array_agg(relation::text || ' ' || keys::text ORDER BY xid) FROM `+n.Ident("outbox")).Scan(&where))
		require.Equal(t, []string{`films [{"id": "1"}]`, `films [{"id": "1", "genre": "1"}]`}, where)
		require.Equal(t, []row{{"films", "U", `{"id":"1"}`}, {"films", "U", `{"genre":"1","id":"1"}`}}, b.drain())
		_, err := b.migrator().Down(b.ctx)
		require.NoError(t, err)
	}
}
