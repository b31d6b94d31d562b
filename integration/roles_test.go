package integration

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

var sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")

// documentedSQL returns the SQL of a section of a page.
func documentedSQL(t *testing.T, page, section string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	require.True(t, found, "%s has no section %s", page, section)
	rest, _, _ = strings.Cut(rest, "\n## ")
	var blocks []string
	for _, block := range sqlBlock.FindAllStringSubmatch(rest, -1) {
		blocks = append(blocks, block[1])
	}
	require.NotEmpty(t, blocks)
	return strings.Join(blocks, "\n")
}

// as returns the URL for another role; the servers of tests trust loopback only with a password.
func as(t *testing.T, databaseURL, role string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	u.User = url.UserPassword(role, role)
	return u.String()
}

// TestDocumentedRoles runs migrations, agent and application as exactly the
// roles that the documentation makes.
func TestDocumentedRoles(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	super, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer super.Close(t.Context())
	exec := func(sql string) {
		t.Helper()
		_, err := super.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	exec("CREATE DATABASE app")
	require.NoError(t, super.Close(t.Context()))
	super, err = pgx.Connect(t.Context(), server.DatabaseURL("app"))
	require.NoError(t, err)
	exec("CREATE ROLE app_owner; CREATE ROLE app LOGIN PASSWORD 'app'; SET ROLE app_owner; RESET ROLE; GRANT CREATE ON SCHEMA public TO app_owner")
	exec("SET ROLE app_owner;" + movieSchema + "GRANT ALL ON movies, ratings TO app; RESET ROLE")
	exec(documentedSQL(t, "../docs/operations.md", "Roles"))
	for _, role := range []string{"icache_migrate", "icache_agent"} {
		exec("ALTER ROLE " + role + " PASSWORD '" + role + "'")
	}

	rules := movieRules + "  - table: unrelated\n    tokens: [\"unrelated:{id}\"]\n"
	rules = strings.Replace(rules, `"user:{user_id}:ratings"]`, `"genre:{movie_id->movies.genre_id}"]`, 1)
	migrating := newStack(t, as(t, server.DatabaseURL("app"), "icache_migrate"), servertest.Redis(t), rules)
	plan := succeed(t, "migrate", "plan", "-c", migrating.config, "--agent-role", "icache_agent")
	require.Contains(t, plan, `GRANT INSERT ON "icache"."outbox_0", "icache"."outbox_1" TO "icache_writer";`)
	require.Contains(t, plan, `TO "icache_agent";`)
	r := cli(t, "migrate", "up", "-c", migrating.config, "--agent-role", "icache_agent")
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, r.stderr, "no note: nothing is left to be wished for")
	succeed(t, "migrate", "status", "-c", migrating.config, "--agent-role", "icache_agent")
	var owners []string
	require.NoError(t, super.QueryRow(t.Context(), `SELECT array_agg(DISTINCT proowner::regrole::text) FROM pg_proc
		WHERE pronamespace = 'icache'::regnamespace`).Scan(&owners))
	require.Equal(t, []string{"icache_writer"}, owners)

	s := newStack(t, as(t, server.DatabaseURL("app"), "icache_agent"), servertest.Redis(t), rules)
	r = cli(t, "migrate", "status", "-c", s.config)
	require.Zero(t, r.code, r.stdout+r.stderr)
	require.Empty(t, r.stderr, "a role that may change nothing can compare")
	a := startAgent(t, s.config)
	app, err := pgx.Connect(t.Context(), as(t, server.DatabaseURL("app"), "app"))
	require.NoError(t, err)
	defer app.Close(t.Context())
	_, err = app.Exec(t.Context(), "UPDATE movies SET title = 'x' WHERE id = 1")
	require.NoError(t, err)
	s.awaitBump(t, "movie:1", 0)
	genre := s.value(t, "genre:7")
	_, err = app.Exec(t.Context(), "UPDATE ratings SET stars = 1 WHERE movie_id = 1")
	require.NoError(t, err)
	s.awaitBump(t, "genre:7", genre)
	_, err = app.Exec(t.Context(), "INSERT INTO icache.outbox_0 (relation, op) VALUES (0, 'T')")
	require.ErrorContains(t, err, "permission denied")
	// A backlog that makes it rotate, which needs TRUNCATE.
	_, err = app.Exec(t.Context(), `DO $$ BEGIN FOR i IN 1000..4000 LOOP INSERT INTO movies VALUES (i, 'm'); END LOOP; END $$`)
	require.NoError(t, err)
	s.awaitBump(t, "movie:4000", 0)
	a.terminate(t)

	succeed(t, "migrate", "down", "-c", migrating.config)
	var left int
	require.NoError(t, super.QueryRow(t.Context(), remains).Scan(&left))
	require.Zero(t, left)
}
