package doctor_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/doctor"
	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

func TestMain(m *testing.M) { servertest.Main(m) }

type bundle struct {
	cfg doctor.Config
	db  *pgx.Conn
	url string
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{url: servertest.Postgres(t)}
	var err error
	b.db, err = pgx.Connect(t.Context(), b.url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.db.Close(context.Background()) })
	b.exec(t, "CREATE TABLE movies (id int PRIMARY KEY, title text)")
	rules, err := mapping.Compile([]mapping.Rule{{Table: mapping.TableName{Schema: "public", Name: "movies"}, Tokens: []string{"movie:{id}"}}})
	require.NoError(t, err)
	m, err := migrations.New(b.db, migrations.Config{Rules: rules})
	require.NoError(t, err)
	_, err = m.Up(t.Context())
	require.NoError(t, err)
	o, err := redis.ParseURL(servertest.Redis(t))
	require.NoError(t, err)
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	b.cfg = doctor.Config{
		Rules: rules, Redis: rdb, TokenKey: servertest.Prefix(t) + "{token}",
		Connect: func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, b.url) },
	}
	return b
}

func (b *bundle) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := b.db.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func (b *bundle) examine(t *testing.T) map[string]doctor.Finding {
	t.Helper()
	findings, err := doctor.Examine(t.Context(), b.cfg)
	require.NoError(t, err)
	byCheck := make(map[string]doctor.Finding)
	for _, f := range findings {
		byCheck[f.Check] = f
	}
	return byCheck
}

func TestAHealthySetUp(t *testing.T) {
	t.Parallel()
	f := setup(t).examine(t)
	for check, finding := range f {
		require.NotEqual(t, doctor.Serious, finding.Level, "%s: %+v", check, finding)
	}
	for _, check := range []string{"postgres", "postgres version", "primary", "pooler", "triggers", "rights", "outbox", "redis", "redis version", "clock", "bump"} {
		require.Equal(t, doctor.OK, f[check].Level, "%s: %+v", check, f[check])
	}
	require.Equal(t, doctor.Warning, f["agent"].Level, "no agent is running")
}

func TestDriftIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, "ALTER TABLE movies DISABLE TRIGGER icache_update")
	f := b.examine(t)["triggers"]
	require.Equal(t, doctor.Serious, f.Level)
	require.Contains(t, f.Found, "public.movies: disabled")
	b.exec(t, "ALTER TABLE movies ENABLE TRIGGER icache_update")
	require.Equal(t, doctor.OK, b.examine(t)["triggers"].Level)
}

func TestTempFileLimitIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NotContains(t, b.examine(t), "temp_file_limit")
	b.exec(t, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET temp_file_limit = %L', current_database(), '1GB'); END $$")
	f := b.examine(t)["temp_file_limit"]
	require.Equal(t, doctor.Warning, f.Level)
	require.Equal(t, "1GB", f.Found)
}

func TestNothingInstalled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m, err := migrations.New(b.db, migrations.Config{})
	require.NoError(t, err)
	_, err = m.Down(t.Context())
	require.NoError(t, err)
	f := b.examine(t)["triggers"]
	require.Equal(t, doctor.Serious, f.Level)
	require.Contains(t, f.Hint, "migrate up")
}

func TestMissingRights(t *testing.T) {
	t.Parallel()
	b := setup(t)
	name := "doctor_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	b.exec(t, "CREATE ROLE "+name+" LOGIN PASSWORD 'x'")
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY " + name, "DROP ROLE " + name} {
			_, err := b.db.Exec(context.Background(), sql)
			require.NoError(t, err)
		}
	})
	b.exec(t, "GRANT USAGE ON SCHEMA icache TO "+name)
	b.exec(t, "GRANT SELECT ON icache.outbox_0 TO "+name)
	cfg := b.db.Config().Copy()
	b.cfg.Connect = func(ctx context.Context) (*pgx.Conn, error) {
		c, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			_, err = c.Exec(ctx, "SET ROLE "+name)
		}
		return c, err
	}
	f := b.examine(t)["rights"]
	require.Equal(t, doctor.Serious, f.Level, "%+v", f)
	require.Contains(t, f.Found, `TRUNCATE ON "icache"."outbox_0"`)
	require.NotContains(t, f.Found, `SELECT ON "icache"."outbox_0"`)
	require.NotContains(t, f.Found, "USAGE ON SCHEMA")
}

// TestRightsOfTheAgent: the role has what migrations grant it and what the
// rules ask for, and not a right more.
func TestRightsOfTheAgent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	name := "doctor_" + strconv.FormatInt(time.Now().UnixNano(), 36)
	b.exec(t, "CREATE ROLE "+name+" LOGIN PASSWORD 'x'; CREATE TABLE ratings (id int PRIMARY KEY, movie_id int)")
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY " + name, "DROP ROLE " + name} {
			_, err := b.db.Exec(context.Background(), sql)
			require.NoError(t, err)
		}
	})
	rules, err := mapping.Compile([]mapping.Rule{{Table: mapping.TableName{Schema: "public", Name: "ratings"},
		Tokens: []string{"title:{movie_id->movies.title}"}, SettleReplicas: true}})
	require.NoError(t, err)
	m, err := migrations.New(b.db, migrations.Config{Rules: rules, AgentRole: name})
	require.NoError(t, err)
	_, err = m.Up(t.Context())
	require.NoError(t, err)
	b.cfg.Rules, b.cfg.AgentRole = rules, name
	cfg := b.db.Config().Copy()
	cfg.User, cfg.Password = name, "x"
	b.cfg.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, cfg) }

	f := b.examine(t)["rights"]
	require.Equal(t, doctor.Serious, f.Level)
	require.Equal(t, `missing: SELECT ON "public"."movies", membership in pg_read_all_stats`, f.Found)
	b.exec(t, "GRANT SELECT ON movies TO "+name+"; GRANT pg_read_all_stats TO "+name)
	f = b.examine(t)["rights"]
	require.Equal(t, doctor.OK, f.Level, "%+v", f)

	b.exec(t, "REVOKE EXECUTE ON FUNCTION icache.record FROM "+name+"; REVOKE DELETE ON icache.purges, icache.rules FROM "+name+"; REVOKE SELECT ON icache.outbox FROM "+name)
	f = b.examine(t)["rights"]
	for _, missing := range []string{`EXECUTE ON FUNCTION "icache"."record"(oid, "char", jsonb)`, `DELETE ON "icache"."rules"`, `DELETE ON "icache"."purges"`, `SELECT ON "icache"."outbox"`} {
		require.Contains(t, f.Found, missing)
	}
}

func TestOverflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, "SELECT setval('icache.overflow', 1)")
	f := b.examine(t)["outbox"]
	require.Equal(t, doctor.Serious, f.Level)
	require.Contains(t, f.Found, "unrecorded")
}

func TestARunningAgentIsSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, doctor.Warning, b.examine(t)["agent"].Level)
	_, err := b.db.Exec(t.Context(), "SELECT pg_advisory_lock($1)", outbox.In("").LeaderKey())
	require.NoError(t, err)
	require.Equal(t, doctor.OK, b.examine(t)["agent"].Level)
}

func TestServersThatAreAway(t *testing.T) {
	t.Parallel()
	away := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer away.Close()
	findings, err := doctor.Examine(t.Context(), doctor.Config{
		Redis:   away,
		Connect: func(context.Context) (*pgx.Conn, error) { return nil, fmt.Errorf("connection refused") },
	})
	require.NoError(t, err)
	require.Equal(t, doctor.Serious, doctor.Worst(findings))
	require.Len(t, findings, 2)
}

func TestRedisMemoryPolicy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	server := servertest.OwnRedis(t, "maxmemory 50mb", "maxmemory-policy allkeys-lru")
	o, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	rdb := redis.NewClient(o)
	defer rdb.Close()
	b.cfg.Redis, b.cfg.TokenKey = rdb, ""
	require.Equal(t, doctor.OK, b.examine(t)["eviction"].Level)
	b.cfg.TokenKey = "shop:1:{token}"
	require.Equal(t, doctor.Warning, b.examine(t)["eviction"].Level)
	n, err := rdb.Exists(t.Context(), "icache:t:icache-doctor", "shop:1:icache-doctor").Result()
	require.NoError(t, err)
	require.Zero(t, n, "the doctor leaves no token behind")
}

// Behind a real PgBouncer in transaction mode the agent cannot work.
func TestTransactionPoolerIsFound(t *testing.T) {
	t.Parallel()
	bouncer, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("pgbouncer is not installed")
	}
	b := setup(t)
	for mode, want := range map[string]doctor.Level{"transaction": doctor.Serious, "session": doctor.OK} {
		t.Run(mode, func(t *testing.T) {
			port := startBouncer(t, bouncer, b.url, mode)
			cfg, err := pgx.ParseConfig(b.url)
			require.NoError(t, err)
			cfg.Host, cfg.Port, cfg.TLSConfig, cfg.Fallbacks = "127.0.0.1", uint16(port), nil, nil
			cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
			b.cfg.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, cfg) }
			f := b.examine(t)["pooler"]
			require.Equal(t, want, f.Level, "%+v", f)
		})
	}
}

func startBouncer(t *testing.T, path, target, mode string) int {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	password, _ := u.User.Password()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := ln.Addr().(*net.TCPAddr).Port
	require.NoError(t, ln.Close())
	dir, err := os.MkdirTemp("", "icache-bouncer-") //nolint:usetesting // another user reads it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ini := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(ini, fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
`, u.Hostname(), u.Port(), u.User.Username(), password, port, mode), 0o644))
	require.NoError(t, os.Chmod(dir, 0o755))
	cmd := exec.Command(path, "-q", ini)
	if os.Geteuid() == 0 { // it refuses to run as root
		nobody, err := user.Lookup("nobody")
		require.NoError(t, err)
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	return port
}
