package servers

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/localserver"
)

const (
	answerLimit  = 10 * time.Second // for a server that should be there
	startLimit   = 60 * time.Second // for a server that has just been started
	localMention = "started from "
)

// Postgres finds or starts a Postgres server.
func (f *Finder) Postgres(ctx context.Context) (*Server, error) {
	if url := f.Getenv(EnvPostgresURL); url != "" {
		return f.givenPostgres(ctx, url)
	}
	return f.climb(ctx, "Postgres", EnvPostgres, []way{
		{"docker", f.dockerPostgres},
		{"local", f.localPostgres},
		{"install", f.installPostgres},
		{"embedded", f.embeddedPostgres},
	})
}

func (f *Finder) givenPostgres(ctx context.Context, url string) (*Server, error) {
	cfg, err := pgx.ParseConfig(url) // its error shows no password
	if err != nil {
		return nil, fmt.Errorf("%s: %w", EnvPostgresURL, err)
	}
	if err := pingPostgres(ctx, url); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvPostgresURL, err)
	}
	return &Server{
		Name:  "Postgres",
		Where: fmt.Sprintf("database %q on %s, given by %s", cfg.Database, cfg.Host, EnvPostgresURL),
		URL:   url,
		Given: true,
		client: func(statement string) string {
			return `psql "$` + EnvPostgresURL + `" -c ` + doubleQuote(statement)
		},
	}, nil
}

func (f *Finder) localPostgres(ctx context.Context) (*Server, error) {
	binDir, err := localserver.FindPostgres()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotHere, err)
	}
	return f.startPostgres(ctx, binDir, localMention+binDir)
}

// startPostgres starts a throw-away server from the programs in a directory.
func (f *Finder) startPostgres(ctx context.Context, binDir, where string) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	p, err := localserver.StartPostgres(ctx, localserver.PostgresConfig{
		BinDir: binDir,
		// The demo's whole database is a megabyte.
		Settings: []string{"shared_buffers=16MB", "max_wal_size=64MB", "min_wal_size=32MB", "max_connections=50"},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{Name: "Postgres", Where: where + ", port of its own on " + p.Addr(), URL: p.URL(), close: p.Close}
	if psql := f.findPsql(binDir); psql != "" {
		s.client = func(statement string) string {
			// Without ?sslmode=disable, which psql finds out by itself.
			return psql + " " + strings.TrimSuffix(s.URL, "?sslmode=disable") + " -c " + doubleQuote(statement)
		}
	}
	return s, nil
}

// findPsql returns how to call psql, or "".
func (f *Finder) findPsql(binDir string) string {
	if f.lookPath("psql") != "" {
		return "psql"
	}
	if path, err := exec.LookPath(filepath.Join(binDir, "psql")); err == nil {
		return shellQuote(path)
	}
	return ""
}

// pingPostgres is nil if the server takes queries.
func pingPostgres(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}
