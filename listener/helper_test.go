package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// objects makes the schema as migrations does, with one trigger function that
// records the column k of the rows that a statement changed, and two tables.
const objects = `
CREATE SCHEMA icache;
CREATE TABLE icache.outbox_0 (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), relation oid NOT NULL, op "char" NOT NULL, keys jsonb);
CREATE TABLE icache.outbox_1 (LIKE icache.outbox_0 INCLUDING ALL);
CREATE INDEX ON icache.outbox_0 (xid);
CREATE INDEX ON icache.outbox_1 (xid);
CREATE SEQUENCE icache.active MINVALUE 0 START 0;
CREATE SEQUENCE icache.overflow MINVALUE 0 START 0;
SELECT setval('icache.active', 0), setval('icache.overflow', 0);
CREATE UNLOGGED TABLE icache.cursor (
  one boolean PRIMARY KEY DEFAULT true CHECK (one), system_identifier bigint NOT NULL, timeline text NOT NULL,
  started timestamptz NOT NULL, snap pg_snapshot NOT NULL, updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE icache.tables (relation regclass PRIMARY KEY, name text NOT NULL, definition text NOT NULL);
CREATE TABLE icache.meta (key text PRIMARY KEY, value text NOT NULL);
INSERT INTO icache.meta VALUES ('version', '1');

CREATE FUNCTION icache.record(relation oid, op "char", keys jsonb) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  IF pg_sequence_last_value('icache.overflow'::regclass) = 1 THEN
    NULL;
  ELSIF random() < 0.02 AND pg_total_relation_size('icache.outbox_0') + pg_total_relation_size('icache.outbox_1') > @limit THEN
    PERFORM setval('icache.overflow', 1);
  ELSIF pg_sequence_last_value('icache.active'::regclass) = 1 THEN
    INSERT INTO icache.outbox_1 (relation, op, keys) VALUES (record.relation, record.op, record.keys);
  ELSE
    INSERT INTO icache.outbox_0 (relation, op, keys) VALUES (record.relation, record.op, record.keys);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(@key) THEN
    PERFORM pg_notify('icache', '');
  END IF;
END $f$;
CREATE FUNCTION icache.captured() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  PERFORM icache.record(TG_RELID, 'I', (SELECT jsonb_agg(jsonb_build_object('k', k)) FROM n));
  RETURN NULL;
END $f$;
CREATE FUNCTION icache.captured_row() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
  PERFORM icache.record(TG_RELID, 'I', jsonb_build_array(jsonb_build_object('k', NEW.k)));
  RETURN NULL;
END $f$;

CREATE TABLE events (k text PRIMARY KEY);
CREATE TRIGGER captured AFTER INSERT ON events REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION icache.captured();
INSERT INTO icache.tables VALUES ('events', 'public.events', '');
`

func install(t testing.TB, url string) { installLimit(t, url, 256<<20) }

func installLimit(t testing.TB, url string, limit int64) {
	t.Helper()
	sql := strings.NewReplacer("@key", fmt.Sprint(outbox.In("").DoorbellKey()), "@limit", fmt.Sprint(limit)).Replace(objects)
	exec(t, connect(t, url), sql)
}

// connect opens a connection that the end of the test closes.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func tryConnect(t testing.TB, url string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(context.Background(), url)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func viaProxy(t testing.TB, server string, p *proxy) string {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	u.Host = p.Addr().String()
	return u.String()
}

// cursor returns how far the listener has come.
func (l *running) cursor(t testing.TB) snapshot {
	t.Helper()
	s, err := parseSnapshot(l.Stats().Cursor)
	require.NoError(t, err)
	return s
}

func exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	_, err := conn.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

func query[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(context.Background(), sql, args...).Scan(&v))
	return v
}

// recorder is a handler that remembers what it saw. What was applied counts
// only once it has been flushed.
type recorder struct {
	mu      sync.Mutex
	pending []string
	seen    map[string]int
	at      map[string]time.Time
	changes int
	tables  map[string]int
	resets  []string
	fail    atomic.Pointer[error]
	onApply func(Change)
}

func newRecorder() *recorder {
	return &recorder{seen: map[string]int{}, at: map[string]time.Time{}, tables: map[string]int{}}
}

func (r *recorder) failure() error {
	if e := r.fail.Load(); e != nil {
		return *e
	}
	return nil
}

func (r *recorder) setFailure(err error) {
	if err == nil {
		r.fail.Store(nil)
	} else {
		r.fail.Store(&err)
	}
}

func (r *recorder) Apply(_ context.Context, c Change) error {
	if r.onApply != nil {
		r.onApply(c)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	r.tables[c.Table]++
	if c.Keys == nil {
		r.pending = append(r.pending, c.Table+":*")
		return nil
	}
	// [{"k": "a"}, {"k": "b"}]
	for part := range strings.SplitSeq(string(c.Keys), `"k": "`) {
		if key, _, ok := strings.Cut(part, `"`); ok && !strings.HasPrefix(part, "[") {
			r.pending = append(r.pending, key)
		}
	}
	return nil
}

func (r *recorder) Flush(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.failure(); err != nil {
		r.pending = r.pending[:0]
		return err
	}
	now := time.Now()
	for _, k := range r.pending {
		r.seen[k]++
		r.at[k] = now
	}
	r.pending = r.pending[:0]
	return nil
}

func (r *recorder) Reset(_ context.Context, reason string) error {
	if err := r.failure(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resets = append(r.resets, reason)
	return nil
}

func (r *recorder) count(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[key]
}

func (r *recorder) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func (r *recorder) resetReasons() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.resets...)
}

// duplicates returns how many keys were seen more than once.
func (r *recorder) duplicates() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.seen {
		if c > 1 {
			n++
		}
	}
	return n
}

type running struct {
	*Listener
	stop func() // cancels and waits for Run to return nil
}

// start runs a listener until the test ends.
func start(t testing.TB, url string, h Handler, change ...func(*Listener)) *running {
	t.Helper()
	l, err := New(Config{URL: url, Handler: h, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	require.NoError(t, err)
	l.tune.backoffMin = 10 * time.Millisecond
	for _, f := range change {
		f(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(15 * time.Second):
				t.Error("Run did not return")
			}
		})
	}
	t.Cleanup(stop)
	return &running{Listener: l, stop: stop}
}

func leads(t testing.TB, l *running) {
	t.Helper()
	eventually(t, func() bool { return l.Stats().Leader && l.Stats().Polls > 0 }, "it becomes the leader")
}

const patience = 20 * time.Second

func eventually(t testing.TB, cond func() bool, what string) {
	t.Helper()
	require.Eventually(t, cond, patience, 2*time.Millisecond, what)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

var errHandler = errors.New("redis is down")
