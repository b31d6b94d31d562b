package servertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/localserver"
)

const statementTimeout = time.Minute

var sharedPostgres = sharedServer{
	env: PostgresURLEnv,
	start: func(ctx context.Context) (string, io.Closer, error) {
		server, err := localserver.StartPostgres(ctx, localserver.PostgresConfig{BinDir: os.Getenv(PostgresBinDirEnv)})
		if err != nil {
			return "", nil, err
		}
		return server.URL(), server, nil
	},
}

// Postgres returns the URL of a new, empty database on the shared server, with
// the rights of a superuser. It is dropped, whoever is still connected, when
// the test ends.
func Postgres(tb testing.TB) string {
	tb.Helper()
	server := sharedPostgres.get(tb)
	name := "icache_test_" + random()
	execute(tb, server, "CREATE DATABASE "+name)
	tb.Cleanup(func() { execute(tb, server, "DROP DATABASE "+name+" WITH (FORCE)") })

	u, err := url.Parse(server)
	if err != nil {
		tb.Fatalf("%s is no URL", PostgresURLEnv) // without the cause, which may show the password
	}
	u.Path = "/" + name
	return u.String()
}

func execute(tb testing.TB, url, sql string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Fatalf("servertest: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		tb.Fatalf("servertest: %s: %v", sql, err)
	}
}

// OwnPostgres starts a server for this test alone, which may do to it what it
// likes. It needs local binaries. Settings have the form "name=value".
func OwnPostgres(tb testing.TB, settings ...string) *localserver.Postgres {
	tb.Helper()
	return OwnPostgresWith(tb, localserver.PostgresConfig{Settings: settings})
}

// OwnPostgresWith is [OwnPostgres] with everything that can be configured.
func OwnPostgresWith(tb testing.TB, cfg localserver.PostgresConfig) *localserver.Postgres {
	tb.Helper()
	if cfg.BinDir == "" {
		cfg.BinDir = os.Getenv(PostgresBinDirEnv)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := localserver.StartPostgres(ctx, cfg)
	unavailable(tb, err, PostgresBinDirEnv)
	own(tb, server)
	return server
}

// own closes a server when the test ends, and shows its log if the test failed.
func own(tb testing.TB, server interface {
	io.Closer
	Log() string
}) {
	opened(server)
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("log of %T ends with:\n%s", server, server.Log())
		}
		if err := closeServer(server); err != nil {
			tb.Error(err)
		}
	})
}

func random() string { return fmt.Sprintf("%.10s", strings.ToLower(rand.Text())) }
