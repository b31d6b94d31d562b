package localserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresConfig says how to start a Postgres server. The zero value starts a
// fast, throw-away server.
type PostgresConfig struct {
	// BinDir holds initdb and postgres. Defaults to what [FindPostgres] finds.
	BinDir string
	// Port to listen on. Defaults to a free one.
	Port int
	// Durable keeps fsync and full_page_writes on. Without it the server
	// survives Kill, but not a crash of the machine.
	Durable bool
	// Settings are further server settings, "name=value"; later ones win.
	Settings []string
	// StandbyOf makes the server a streaming standby of another one.
	StandbyOf *Postgres
}

// Postgres is a Postgres server of this process. Its methods are safe for
// concurrent use.
type Postgres struct {
	*process
	home     *home
	data     string
	binDir   string
	port     int
	password string
}

const superuser = "postgres"

// portAttempts bounds the retries after another process took the port first.
const portAttempts = 10

// StartPostgres makes a database cluster and starts a server on it. The
// context bounds the start, not the life of the server. Callers must call
// [Postgres.Close].
func StartPostgres(ctx context.Context, cfg PostgresConfig) (_ *Postgres, err error) {
	binDir := cfg.BinDir
	if binDir == "" {
		if binDir, err = FindPostgres(); err != nil {
			return nil, err
		}
	}
	as, err := unprivileged("postgres", "_postgres", "nobody")
	if err != nil {
		return nil, err
	}
	home, err := newHome()
	if err != nil {
		return nil, err
	}
	p := &Postgres{home: home, binDir: binDir, password: rand.Text()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	p.process = &process{
		name:    "postgres",
		path:    filepath.Join(binDir, "postgres"),
		as:      as,
		logPath: home.join("postgres.log"),
		ready:   p.ping,
	}
	if p.data, err = home.dir("data", as); err != nil {
		return nil, err
	}
	if cfg.StandbyOf != nil {
		err = p.baseBackup(ctx, cfg.StandbyOf)
	} else {
		err = p.initdb(ctx)
	}
	if err != nil {
		return nil, err
	}
	return p, retryPort(cfg.Port, func(port int) error {
		p.port, p.args = port, p.serverArgs(port, cfg)
		return p.Start(ctx)
	})
}

// retryPort starts a server on a free port, again if another process took it in between.
func retryPort(fixed int, start func(port int) error) error {
	if fixed != 0 {
		return start(fixed)
	}
	var err error
	for range portAttempts {
		var port int
		if port, err = freePort(); err != nil {
			return err
		}
		if err = start(port); err == nil || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
	return err
}

func (p *Postgres) initdb(ctx context.Context) error {
	passwordFile := p.home.join("password")
	if err := os.WriteFile(passwordFile, []byte(p.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("localserver: %w", err)
	}
	defer os.Remove(passwordFile)
	if err := p.as.own(passwordFile); err != nil {
		return err
	}
	return p.tool(ctx, "initdb", nil, "--pgdata="+p.data, "--username="+superuser, "--pwfile="+passwordFile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
}

func (p *Postgres) baseBackup(ctx context.Context, primary *Postgres) error {
	p.password = primary.password
	return p.tool(ctx, "pg_basebackup", []string{"PGPASSWORD=" + primary.password},
		"--pgdata="+p.data, "--host=127.0.0.1", "--port="+strconv.Itoa(primary.port), "--username="+superuser,
		"--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf", "--no-sync")
}

// tool runs one of the programs that come with the server.
func (p *Postgres) tool(ctx context.Context, name string, env []string, args ...string) error {
	cmd := command(filepath.Join(p.binDir, name), p.as, p.home.path, args...)
	cmd.Env = append(cmd.Env, env...)
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("localserver: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("localserver: %s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("localserver: %s: %w", name, ctx.Err())
		}
		return fmt.Errorf("localserver: %s: %w%s", name, err, p.tail())
	}
	return nil
}

func (p *Postgres) serverArgs(port int, cfg PostgresConfig) []string {
	settings := []string{
		"port=" + strconv.Itoa(port),
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=",
		"timezone=UTC",
		"max_connections=300",
		"shared_buffers=64MB",
		"max_wal_size=2GB",
	}
	if !cfg.Durable {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	args := []string{"-D", p.data}
	for _, setting := range append(settings, cfg.Settings...) {
		args = append(args, "-c", setting)
	}
	return args
}

// ping is nil once the server takes queries.
func (p *Postgres) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// Start starts the server again, on the same port and data, and returns once
// it takes queries, after any crash recovery.
func (p *Postgres) Start(ctx context.Context) error {
	if p.PID() == 0 {
		// After Kill the process id in this file may belong to somebody else by
		// now, and Postgres would refuse to start.
		if err := os.Remove(filepath.Join(p.data, "postmaster.pid")); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("localserver: %w", err)
		}
	}
	return p.start(ctx, p.home.path)
}

// Stop shuts the server down in the "fast" way: sessions are ended,
// transactions rolled back, data flushed.
func (p *Postgres) Stop() error { return p.stop(syscall.SIGINT) }

// StopImmediate shuts the server down in the "immediate" way, which makes the
// next start recover from the log, like a crash.
func (p *Postgres) StopImmediate() error { return p.stop(syscall.SIGQUIT) }

// Promote makes a standby a primary and returns once it accepts writes.
func (p *Postgres) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return fmt.Errorf("localserver: promote: %w", err)
	}
	defer conn.Close(ctx)
	var promoted bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true)").Scan(&promoted); err != nil {
		return fmt.Errorf("localserver: promote: %w", err)
	}
	if !promoted {
		return errors.New("localserver: promote: the standby is still in recovery" + p.tail())
	}
	return nil
}

// Close kills the server and removes its data. It may be called again.
func (p *Postgres) Close() error {
	var err error
	if p.process != nil {
		err = p.Kill()
	}
	return errors.Join(err, p.home.remove())
}

// URL is the connection URL of the superuser for the database "postgres".
func (p *Postgres) URL() string { return p.DatabaseURL("postgres") }

// DatabaseURL is the connection URL of the superuser for a database.
func (p *Postgres) DatabaseURL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, p.password),
		Host:     p.Addr(),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Addr is the address that the server listens on, "127.0.0.1:port".
func (p *Postgres) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// BinDir holds the programs of this server's version: psql, pgbench and others.
func (p *Postgres) BinDir() string { return p.binDir }

// DataDir is the directory of the server's data.
func (p *Postgres) DataDir() string { return p.data }
