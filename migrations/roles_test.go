package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/migrations"
)

func (b *bench) version() int {
	b.Helper()
	var v int
	require.NoError(b, b.conn.QueryRow(b.ctx, `SELECT current_setting('server_version_num')::int / 10000`).Scan(&v))
	return v
}

// role makes a role that is dropped at the end, and returns its name.
func (b *bench) role(attributes string) string {
	b.Helper()
	name := servertest.Prefix(b.T) + "role"
	b.exec(fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'secret' %s", name, attributes))
	b.Cleanup(func() {
		b.dropRole(name)
	})
	return name
}

// dropRole drops a role with everything that it owns in the database.
func (b *bench) dropRole(name string) {
	conn, err := pgx.Connect(b.background(), b.url)
	require.NoError(b, err)
	defer conn.Close(b.background())
	_, err = conn.Exec(b.background(), fmt.Sprintf(`DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '%s') THEN
		DROP OWNED BY "%[1]s" CASCADE; DROP ROLE "%[1]s"; END IF; END $$`, name))
	require.NoError(b, err)
}

// as connects as a role.
func (b *bench) as(role string) *pgx.Conn {
	b.Helper()
	cfg, err := pgx.ParseConfig(b.url)
	require.NoError(b, err)
	cfg.User, cfg.Password = role, "secret"
	conn, err := pgx.ConnectConfig(b.ctx, cfg)
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close(b.background()) })
	return conn
}

// TestOtherRoles: who may write the table needs no right on the outbox, and has none.
func TestOtherRoles(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	app := b.role("")
	b.exec(`GRANT INSERT, SELECT, UPDATE, DELETE, TRUNCATE, TRIGGER ON films TO ` + app + `; GRANT CREATE ON SCHEMA public TO ` + app)
	conn := b.as(app)
	_, err := conn.Exec(b.ctx, `CREATE TEMP TABLE outbox_0 (x int); CREATE TEMP TABLE new_rows (x int); SET search_path = pg_temp, public;
		INSERT INTO public.films VALUES (11, 1); UPDATE public.films SET seen = 1 WHERE id = 1; TRUNCATE public.films`)
	require.NoError(t, err)
	require.Equal(t, []row{{"films", "I", `{"genre":"1","id":"11"}`}, {"films", "U", `{"genre":"1","id":"1"}`}, {"films", "T", "unknown"}}, b.drain())
	for _, forbidden := range []string{
		`SELECT FROM icache.outbox`, `SELECT FROM icache.outbox_0`, `INSERT INTO icache.outbox_0 (relation, op) VALUES (1, 'U')`, `DELETE FROM icache.outbox_1`,
		`SELECT setval('icache.overflow', 1)`, `SELECT icache.record(1, 'U', NULL)`, `SELECT FROM icache.tables`, `DELETE FROM icache.cursor`,
		`CREATE TABLE mine (); CREATE TRIGGER x AFTER TRUNCATE ON mine FOR EACH STATEMENT EXECUTE FUNCTION icache.record_truncate()`,
	} {
		_, err := conn.Exec(b.ctx, forbidden)
		require.Error(t, err, forbidden)
		require.Equal(t, "42501", err.(*pgconn.PgError).Code, forbidden) //nolint:errorlint // pgx returns it as it is
	}
}

// TestRowLevelSecurity does not hide changed rows from the triggers.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	app := b.role("")
	b.exec(`GRANT ALL ON films TO ` + app + `; ALTER TABLE films ENABLE ROW LEVEL SECURITY; ALTER TABLE films FORCE ROW LEVEL SECURITY;
		CREATE POLICY r ON films FOR SELECT USING (genre = 1); CREATE POLICY i ON films FOR INSERT WITH CHECK (true); CREATE POLICY u ON films FOR UPDATE USING (genre = 1)`)
	conn := b.as(app)
	_, err := conn.Exec(b.ctx, `INSERT INTO films VALUES (11, 1), (12, 2)`)
	require.NoError(t, err)
	_, err = conn.Exec(b.ctx, `UPDATE films SET seen = 1`)
	require.NoError(t, err)
	require.Equal(t, []row{{"films", "I", `{"genre":"1","id":"11"} {"genre":"2","id":"12"}`},
		{"films", "U", `{"genre":"1","id":"1"} {"genre":"1","id":"10"} {"genre":"1","id":"11"} {"genre":"1","id":"4"} {"genre":"1","id":"7"}`}}, b.drain())
}

// TestWriterRole owns the functions and may do nothing but write the outbox.
func TestWriterRole(t *testing.T) {
	t.Parallel()
	b := setup(t, films)
	b.cfg.WriterRole = strings.TrimSuffix(servertest.Prefix(t), "_")
	b.rules(filmRule())
	b.upToDateAfterUp()
	var owners []string
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT array_agg(DISTINCT pg_get_userbyid(proowner)::text) FROM pg_proc WHERE pronamespace = 'icache'::regnamespace`).Scan(&owners))
	require.Equal(t, []string{b.cfg.WriterRole}, owners)
	b.exec(`SET ROLE ` + b.cfg.WriterRole)
	b.exec(`INSERT INTO icache.outbox_1 (relation, op) VALUES (1, 'U')`)
	for _, forbidden := range []string{
		`SELECT FROM films`, `SELECT FROM icache.outbox_0`, `DELETE FROM icache.outbox_0`, `SELECT setval('icache.active', 1)`, `CREATE TABLE icache.x ()`, `SELECT FROM icache.cursor`,
	} {
		_, err := b.conn.Exec(b.ctx, forbidden)
		require.ErrorContains(t, err, "permission denied", forbidden)
	}
	b.exec(`RESET ROLE`)

	_, err := b.migrator().Down(b.ctx)
	require.NoError(t, err)
	b.requireClean()
	var count int
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT count(*) FROM pg_roles WHERE rolname = $1`, b.cfg.WriterRole).Scan(&count))
	require.Zero(t, count)
}

// TestWriterRoleOfSeveralDatabases is kept until the last of them is done with it.
func TestWriterRoleOfSeveralDatabases(t *testing.T) {
	t.Parallel()
	one, two := setup(t, films), setup(t, films)
	for _, b := range []*bench{one, two} {
		b.cfg.WriterRole = "w_" + one.conn.Config().Database
		b.rules(filmRule())
		b.upToDateAfterUp()
	}
	plan, err := one.migrator().Down(one.ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"role " + one.cfg.WriterRole + " is kept: other databases of the cluster use it"}, plan.Notes)
	plan, err = two.migrator().Down(two.ctx)
	require.NoError(t, err)
	require.Empty(t, plan.Notes)
}

// TestPowerfulWriterRole is not used: it would lend its rights to everybody.
func TestPowerfulWriterRole(t *testing.T) {
	t.Parallel()
	b := setup(t, films)
	b.cfg.WriterRole = b.role("CREATEDB")
	b.rules(filmRule())
	plan, err := b.migrator().Up(b.ctx)
	require.NoError(t, err)
	require.Len(t, plan.Notes, 1)
	require.Contains(t, plan.Notes[0], "can do more than write the outbox")
	require.NotEmpty(t, b.took(`UPDATE films SET seen = 1`))
}

// TestLeastPrivilege: the migrations need a role that owns the tables, or may
// create triggers on them, and may create in the database.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	for name, attributes := range map[string]string{"plain": "", "may create roles": "CREATEROLE"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, films+`; CREATE TABLE other (id int PRIMARY KEY)`)
			_, err := b.migrator().Down(b.ctx)
			require.NoError(t, err)
			owner, agent, app := b.role(attributes), b.role(""), b.role("")
			b.exec(fmt.Sprintf(`ALTER TABLE films OWNER TO %s; GRANT CREATE ON DATABASE %s TO %[1]s; GRANT ALL ON films, other TO %[3]s`,
				owner, b.conn.Config().Database, app))
			super := b.conn
			b.conn = b.as(owner)
			b.cfg.WriterRole = servertest.Prefix(t) + "writer"
			b.cfg.AgentRole = agent
			b.rules(filmRule(), rule("other", "other:{id}"))
			_, err = b.migrator().Up(b.ctx)
			require.ErrorContains(t, err, "may not create triggers on public.other (GRANT TRIGGER ON \"public\".\"other\" TO ")
			_, err = super.Exec(b.ctx, `GRANT TRIGGER ON other TO `+owner)
			require.NoError(t, err)
			plan, err := b.migrator().Up(b.ctx)
			require.NoError(t, err)
			if attributes == "" {
				require.Len(t, plan.Notes, 1)
				require.Contains(t, plan.Notes[0], "does not exist and")
			} else {
				require.Empty(t, plan.Notes)
			}
			b.upToDateAfterUp()
			_, err = b.as(app).Exec(b.ctx, `UPDATE films SET seen = 1 WHERE id = 1; INSERT INTO other VALUES (1)`)
			require.NoError(t, err)

			// What the agent does.
			conn := b.as(agent)
			for _, sql := range []string{
				`SELECT relation, op, keys FROM icache.outbox_0 UNION ALL SELECT relation, op, keys FROM icache.outbox_1`, `SELECT * FROM icache.outbox`,
				`SELECT relation, name, definition FROM icache.tables`, `SELECT value FROM icache.meta`, `SELECT last_value FROM icache.overflow`,
				`INSERT INTO icache.cursor (system_identifier, timeline, started, snap) VALUES (1, '1', now(), pg_current_snapshot())
				 ON CONFLICT (one) DO UPDATE SET snap = EXCLUDED.snap`, `DELETE FROM icache.cursor`,
				`SELECT setval('icache.active', 1)`, `SELECT setval('icache.overflow', 0)`, `SELECT icache.record(1, 'T', NULL)`,
				`BEGIN; LOCK TABLE icache.outbox_0 IN ACCESS EXCLUSIVE MODE NOWAIT; TRUNCATE icache.outbox_0; COMMIT`,
			} {
				_, err := conn.Exec(b.ctx, sql)
				require.NoError(t, err, sql)
			}
			_, err = conn.Exec(b.ctx, `INSERT INTO icache.outbox_0 (relation, op) VALUES (1, 'T')`)
			require.Error(t, err)

			b.rules(filmRule()) // the role may not drop triggers on other
			_, err = b.migrator().Up(b.ctx)
			require.ErrorContains(t, err, "trigger icache_delete on public.other: ERROR: must be owner")
			_, err = super.Exec(b.ctx, `ALTER TABLE other OWNER TO `+owner)
			require.NoError(t, err)
			b.upToDateAfterUp()
			_, err = b.migrator().Down(b.ctx)
			require.NoError(t, err)
			b.requireClean()
			b.conn = super
			b.dropRole(b.cfg.WriterRole)
		})
	}
}

func TestAgentRoleDoesNotExist(t *testing.T) {
	t.Parallel()
	b := setup(t, films)
	b.cfg.AgentRole = "nobody_knows"
	_, err := b.migrator().Plan(b.ctx)
	require.ErrorContains(t, err, `role nobody_knows of the agent does not exist (CREATE ROLE "nobody_knows" LOGIN)`)
	_, err = migrations.New(b.conn, b.cfg)
	require.NoError(t, err)
}
