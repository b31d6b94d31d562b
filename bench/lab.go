package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/internal/localserver"
)

// lab is what the benchmarks share: two servers, the agent's binary and its config.
type lab struct {
	dir             string
	pg              *localserver.Postgres
	redisServer     *localserver.Redis
	rdb             *redis.Client
	db              *pgx.Conn
	url             string
	postgresVersion string
	redisVersion    string
}

const schema = `
CREATE TABLE item (id bigint PRIMARY KEY, tenant_id int NOT NULL, qty int NOT NULL DEFAULT 0, note text) WITH (fillfactor = 80);
INSERT INTO item (id, tenant_id, note) SELECT g, g % 500, repeat('x', 100) FROM generate_series(1, 100000) g;
CREATE TABLE plain (LIKE item INCLUDING ALL) WITH (fillfactor = 80);
INSERT INTO plain SELECT * FROM item;
CREATE TABLE naive (LIKE item INCLUDING ALL) WITH (fillfactor = 80);
INSERT INTO naive SELECT * FROM item;
CREATE FUNCTION naive_notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('naive', NEW.id::text); RETURN NULL; END $$;
CREATE TRIGGER notify AFTER INSERT OR UPDATE ON naive FOR EACH ROW EXECUTE FUNCTION naive_notify();
ANALYZE;`

func openLab(ctx context.Context) (_ *lab, err error) {
	l := &lab{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp("", "icache-bench-"); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", l.path("icache-agent"), "./cmd/icache-agent")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the agent (run this from the root of the repository): %w\n%s", err, out)
	}
	if l.pg, err = localserver.StartPostgres(ctx, localserver.PostgresConfig{
		Durable: true, Settings: []string{"shared_buffers=256MB", "max_wal_size=4GB", "autovacuum=off", "max_connections=150"},
	}); err != nil {
		return nil, err
	}
	if l.redisServer, err = localserver.StartRedis(ctx, localserver.RedisConfig{}); err != nil {
		return nil, err
	}
	l.rdb = redis.NewClient(&redis.Options{Addr: l.redisServer.Addr()})
	l.url = l.pg.DatabaseURL("postgres")
	if l.db, err = pgx.Connect(ctx, l.url); err != nil {
		return nil, err
	}
	if _, err = l.db.Exec(ctx, schema); err != nil {
		return nil, err
	}
	if err = l.db.QueryRow(ctx, "SELECT 'PostgreSQL ' || current_setting('server_version')").Scan(&l.postgresVersion); err != nil {
		return nil, err
	}
	info, err := l.rdb.Info(ctx, "server").Result()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, "redis_version:"); ok {
			l.redisVersion = "Redis " + strings.TrimSpace(v)
		}
	}
	config := fmt.Sprintf(`postgres: {url: %q}
redis: {url: "redis://%s/0"}
http: {listen: ""}
log: {level: error}
tables:
  - table: public.item
    tokens: ["item:{id}"]
`, l.url, l.redisServer.Addr())
	if err = os.WriteFile(l.path("icache.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return l, l.agentCommand(ctx, "migrate", "up").Run()
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) close() error {
	var errs []error
	if l.db != nil {
		errs = append(errs, l.db.Close(context.Background()))
	}
	if l.rdb != nil {
		errs = append(errs, l.rdb.Close())
	}
	if l.pg != nil {
		errs = append(errs, l.pg.Close())
	}
	if l.redisServer != nil {
		errs = append(errs, l.redisServer.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

func (l *lab) agentCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.path("icache-agent"), append(args, "-c", l.path("icache.yaml"))...)
	cmd.Stderr = os.Stderr
	return cmd
}

// runningAgent is an agent process.
type runningAgent struct{ cmd *exec.Cmd }

// startAgent starts the agent and waits until it leads and has drained the outbox.
func (l *lab) startAgent(ctx context.Context) (*runningAgent, error) {
	cmd := l.agentCommand(ctx, "run")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &runningAgent{cmd}
	if err := l.waitDrained(ctx, time.Minute); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return a, nil
}

// waitDrained waits until a change made now has reached Redis, and so has
// everything before it. On its first start an agent answers for what came
// before with the generation token, so the change is made again each second.
func (l *lab) waitDrained(ctx context.Context, limit time.Duration) error {
	const id = 99_999
	before, err := l.token(ctx, id)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if _, err := l.db.Exec(ctx, "UPDATE item SET qty = qty + 1 WHERE id = $1", id); err != nil {
			return err
		}
		for again := time.Now().Add(time.Second); time.Now().Before(again); time.Sleep(5 * time.Millisecond) {
			if v, err := l.token(ctx, id); err != nil || v != before {
				return err
			}
		}
	}
	return errors.New("the agent did not bump a token in time")
}

func (l *lab) token(ctx context.Context, id int) (int64, error) {
	v, err := l.rdb.Get(ctx, fmt.Sprintf("icache:t:item:%d", id)).Int64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return v, err
}

func (a *runningAgent) stop() error {
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return a.cmd.Wait()
}

// usage returns the processor time used so far and the peak resident memory.
func (a *runningAgent) usage() (cpu time.Duration, peakKiB int, err error) {
	if cpu, err = processorTime(a.cmd.Process.Pid); err != nil {
		return 0, 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if peakKiB, err = strconv.Atoi(strings.Fields(v)[0]); err != nil {
				return 0, 0, err
			}
		}
	}
	return cpu, peakKiB, nil
}

func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func median[T int64 | float64 | time.Duration](values []T) T {
	s := slices.Clone(values)
	slices.Sort(s)
	return s[len(s)/2]
}

func percentile(values []time.Duration, p float64) time.Duration {
	s := slices.Clone(values)
	slices.Sort(s)
	return s[min(len(s)-1, int(float64(len(s))*p))]
}
