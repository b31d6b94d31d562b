package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	good := Config{URL: "postgres://u:sesame@h/db", Handler: newRecorder()}
	_, err := New(good)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no handler":       {func(c *Config) { c.Handler = nil }, "Handler must be set"},
		"no url":           {func(c *Config) { c.URL = " " }, "URL is empty"},
		"bad url":          {func(c *Config) { c.URL = "postgres://u:sesame@h:port/db" }, "cannot be parsed"},
		"bad percent":      {func(c *Config) { c.URL = "postgres://u:sesame%zz@h/db" }, "percent-encoded"},
		"bad port":         {func(c *Config) { c.URL = "host=h password=sesame port=x" }, "cannot be parsed"},
		"password in port": {func(c *Config) { c.URL = "postgres://u:ses/ame@h/db" }, "cannot be parsed"},
		"bad wake":         {func(c *Config) { c.Wake = "maybe" }, `"maybe", want auto, doorbell or poll`},
		"short heartbeat":  {func(c *Config) { c.Heartbeat = time.Nanosecond }, "at least 10ms"},
		"negative":         {func(c *Config) { c.ShutdownTimeout = -1 }, "must be positive"},
	} {
		cfg := good
		c.change(&cfg)
		_, err := New(cfg)
		require.ErrorContains(t, err, c.want, name)
		require.NotContains(t, err.Error(), "sesame", name)
		require.NotContains(t, err.Error(), "ame@", name)
	}
}

func TestConnectErrorsHideThePassword(t *testing.T) {
	t.Parallel()
	l := start(t, "postgres://u:sesame@127.0.0.1:1/db", newRecorder())
	eventually(t, func() bool { return l.Stats().LastError != "" }, "connecting fails")
	require.NotContains(t, l.Stats().LastError, "sesame")
	require.Equal(t, StateConnecting, l.Stats().State)
	l.stop()
}

func TestSchemaErrorsArePermanent(t *testing.T) {
	t.Parallel()
	run := func(url string) error {
		l, err := New(Config{URL: url, Handler: newRecorder()})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return l.Run(ctx)
	}
	url := servertest.Postgres(t)
	err := run(url)
	require.ErrorIs(t, err, ErrSchema)
	require.ErrorContains(t, err, `run "icache-agent migrate up"`)
	install(t, url)
	db := connect(t, url)
	exec(t, db, "UPDATE icache.meta SET value = '0'")
	require.ErrorContains(t, run(url), `has version 0, this program needs 1; run "icache-agent migrate up"`)
	exec(t, db, "UPDATE icache.meta SET value = '999'")
	require.ErrorContains(t, run(url), "has version 999, this program knows 1; use a newer icache-agent")
	exec(t, db, "UPDATE icache.meta SET value = 'x'")
	require.ErrorIs(t, run(url), ErrSchema)
	exec(t, db, "DELETE FROM icache.meta")
	require.ErrorContains(t, run(url), "missing or incomplete")
}

func TestRunRunsOnce(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	l := start(t, url, newRecorder())
	leads(t, l)
	require.ErrorContains(t, l.Run(t.Context()), "already running")
	l.stop()
}

// sharer is a pooler that gives each query of a client to the next of its
// backends, as poolers in transaction mode may.
type sharer struct {
	net.Listener
	wg sync.WaitGroup
}

func newSharer(t *testing.T, url string) *sharer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &sharer{Listener: ln}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				defer c.Close()
				if err := s.serve(c, url); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "closed") {
					t.Logf("pooler: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); s.wg.Wait() })
	return s
}

func (s *sharer) serve(c net.Conn, url string) error {
	client := pgproto3.NewBackend(c, c)
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return err
	}
	var servers []*pgconn.PgConn
	for range 2 {
		server, err := pgconn.Connect(context.Background(), url)
		if err != nil {
			return err
		}
		defer server.Close(context.Background())
		servers = append(servers, server)
	}
	client.Send(&pgproto3.AuthenticationOk{})
	client.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	client.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	client.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := client.Flush(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		msg, err := client.Receive()
		if err != nil {
			return err
		}
		q, ok := msg.(*pgproto3.Query)
		if !ok {
			return io.EOF
		}
		server := servers[i%len(servers)].Frontend()
		server.Send(q)
		if err := server.Flush(); err != nil {
			return err
		}
		for ready := false; !ready; {
			answer, err := server.Receive()
			if err != nil {
				return err
			}
			if _, async := answer.(*pgproto3.NotificationResponse); async {
				continue // nobody to give it to
			}
			client.Send(answer)
			_, ready = answer.(*pgproto3.ReadyForQuery)
		}
		if err := client.Flush(); err != nil {
			return err
		}
	}
}

func TestTransactionPoolerIsFoundOut(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	pool := newSharer(t, url)
	l, err := New(Config{URL: "postgres://u@" + pool.Addr().String() + "/db?sslmode=disable&target_session_attrs=any", Handler: newRecorder()})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = l.Run(ctx)
	require.ErrorIs(t, err, ErrPooler)
	require.ErrorContains(t, err, "connect the agent to Postgres directly")
}
