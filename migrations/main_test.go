package migrations_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// bench is a database of the test's own with the triggers of some rules.
type bench struct {
	*testing.T
	ctx  context.Context
	url  string
	conn *pgx.Conn
	cfg  migrations.Config
}

// row is a row of the outbox.
type row struct {
	Table string
	Op    string
	Keys  string // sorted, or "unknown"
}

func setup(t *testing.T, ddl string, rules ...mapping.Rule) *bench {
	t.Helper()
	b := &bench{T: t, ctx: t.Context(), url: servertest.Postgres(t)}
	b.conn = b.connect()
	b.exec(ddl)
	b.rules(rules...)
	_, err := b.migrator().Up(b.ctx)
	require.NoError(t, err)
	return b
}

func (b *bench) connect() *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.ctx, b.url)
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (b *bench) rules(rules ...mapping.Rule) {
	b.Helper()
	m, err := mapping.Compile(rules)
	require.NoError(b, err)
	b.cfg.Rules = m
}

func (b *bench) migrator() *migrations.Migrator {
	b.Helper()
	m, err := migrations.New(b.conn, b.cfg)
	require.NoError(b, err)
	return m
}

func (b *bench) names() outbox.Names { return outbox.In(b.cfg.Schema) }

func (b *bench) exec(sql string, args ...any) {
	b.Helper()
	_, err := b.conn.Exec(b.ctx, sql, args...)
	require.NoError(b, err, sql)
}

// took executes statements and returns what they left in the outbox.
func (b *bench) took(sql string) []row {
	b.Helper()
	b.exec(sql)
	return b.drain()
}

// drain returns and removes the rows of the outbox.
func (b *bench) drain() []row {
	b.Helper()
	n := b.names()
	rows, err := b.conn.Query(b.ctx, `SELECT relation::regclass::text, op::text, keys FROM (
		SELECT ctid, 0 AS part, * FROM `+n.Outbox(0)+` UNION ALL SELECT ctid, 1, * FROM `+n.Outbox(1)+`) o ORDER BY part, ctid`)
	require.NoError(b, err)
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (row, error) {
		var out row
		var keys []byte
		err := r.Scan(&out.Table, &out.Op, &keys)
		out.Keys = canonical(b.T, keys)
		return out, err
	})
	require.NoError(b, err)
	b.exec("TRUNCATE " + n.Outbox(0) + ", " + n.Outbox(1))
	return list
}

// canonical sorts the objects of keys, whose order does not matter.
func canonical(t *testing.T, keys []byte) string {
	t.Helper()
	if keys == nil {
		return "unknown"
	}
	var objects []map[string]any
	require.NoError(t, json.Unmarshal(keys, &objects))
	texts := make([]string, len(objects))
	for i, o := range objects {
		text, err := json.Marshal(o)
		require.NoError(t, err)
		texts[i] = string(text)
	}
	return join(texts)
}

func commas(texts []string) string { return strings.Join(texts, ",") }

func rule(table string, tokens ...string) mapping.Rule {
	name, err := mapping.ParseTableName(table)
	if err != nil {
		panic(err)
	}
	return mapping.Rule{Table: name, Tokens: tokens}
}

func (b *bench) background() context.Context { return context.WithoutCancel(b.ctx) }

// upToDateAfterUp runs Up and requires that nothing is left to do.
func (b *bench) upToDateAfterUp() {
	b.Helper()
	_, err := b.migrator().Up(b.ctx)
	require.NoError(b, err)
	plan, err := b.migrator().Plan(b.ctx)
	require.NoError(b, err)
	require.True(b, plan.Empty(), plan.SQL())
}

// requireClean requires that nothing in the database reminds of icache.
func (b *bench) requireClean() {
	b.Helper()
	var count int
	require.NoError(b, b.conn.QueryRow(b.ctx, `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1)
		+ (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) + (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_proc WHERE oid >= 16384)`, b.names().Schema()).Scan(&count))
	require.Zero(b, count)
}
