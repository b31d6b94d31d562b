package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)

	r := w.run(t, "migrate", "status")
	require.Equal(t, exitProblem, r.code, r.stderr)
	require.Contains(t, r.stdout, "not installed")

	plan := w.ok(t, "migrate", "plan")
	require.Contains(t, plan, "CREATE SCHEMA")
	require.Contains(t, plan, `"public"."movies"`)

	up := w.ok(t, "migrate", "up")
	require.Contains(t, up, "done: ")
	require.Equal(t, "up to date, nothing to do\n", w.ok(t, "migrate", "up"))
	require.Equal(t, "-- nothing to do\n", w.ok(t, "migrate", "plan"))
	status := decode[statusOut](t, w.ok(t, "migrate", "status", "--json"))
	require.True(t, status.Installed)
	require.False(t, status.Drift)
	require.Equal(t, "public.movies", status.Tables[0].Table)
	require.EqualValues(t, "ok", status.Tables[0].State)

	w.exec(t, "ALTER TABLE movies DISABLE TRIGGER ALL")
	r = w.run(t, "migrate", "status")
	require.Equal(t, exitProblem, r.code)
	require.Contains(t, r.stdout, "disabled  public.movies")
	require.Contains(t, r.stdout, "migrate plan")
	r = w.run(t, "migrate", "status", "--json")
	require.Equal(t, exitProblem, r.code)
	require.True(t, decode[statusOut](t, r.stdout).Drift)
	w.ok(t, "migrate", "up")
	w.ok(t, "migrate", "status")

	down := decode[planOut](t, w.ok(t, "migrate", "down", "--json"))
	require.NotEmpty(t, down.Changes)
	require.Equal(t, "nothing installed, nothing to do\n", w.ok(t, "migrate", "down"))
	var left int
	require.NoError(t, w.db.QueryRow(t.Context(), `SELECT
		(SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'icache')`).Scan(&left))
	require.Zero(t, left)
}

// TestMigrateDownWithoutRules: what is installed can be removed whatever became of the tables.
func TestMigrateDownWithoutRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	w.ok(t, "migrate", "up")
	w.exec(t, "DROP TABLE movies")
	w.ok(t, "migrate", "down")
}

// TestMigrateUnknown: only the live schema can tell; the mistake is the config's.
func TestMigrateUnknown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ rule, want, place string }{
		"table":  {"\n  - table: moviez\n    tokens: [m]", "moviez", "icache.yaml:5:12: "},
		"column": {"\n  - table: movies\n    tokens: [m, \"m:{titel}\"]", `did you mean "title"`, "icache.yaml:6:18: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, movies, test.rule)
			for _, sub := range []string{"plan", "up"} {
				r := w.run(t, "migrate", sub)
				require.Equal(t, exitUsage, r.code, r.stderr)
				require.Empty(t, r.stdout)
				require.Contains(t, r.stderr, test.place)
				require.Contains(t, r.stderr, test.want)
			}
		})
	}
}

// TestMigrateRoles: the roles come from the config, or from flags, which win.
func TestMigrateRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	fromConfig := []string{"ICACHE_POSTGRES__AGENT_ROLE=nobody_knows", "ICACHE_POSTGRES__WRITER_ROLE=" + w.prefix + "config"}

	r := agentCLIEnv(t, fromConfig, "migrate", "plan", "-c", w.config)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "role nobody_knows of the agent does not exist (CREATE ROLE")
	r = agentCLIEnv(t, fromConfig, "migrate", "plan", "-c", w.config, "--agent-role", "nobody_either")
	require.Contains(t, r.stderr, "role nobody_either of the agent does not exist")

	r = agentCLIEnv(t, fromConfig, "migrate", "plan", "-c", w.config, "--agent-role", "pg_monitor")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stdout, `CREATE ROLE "`+w.prefix+`config" NOLOGIN;`)
	require.Contains(t, r.stdout, `TO "pg_monitor";`)
	require.Contains(t, w.ok(t, "migrate", "plan", "--writer-role", w.prefix+"flag"), `CREATE ROLE "`+w.prefix+`flag" NOLOGIN;`)
}
