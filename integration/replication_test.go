package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// TestLogicalReplicationSubscriber: what the apply worker writes fires triggers
// only where the rule has always.
func TestLogicalReplicationSubscriber(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t, "wal_level=logical")
	admin, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer admin.Close(context.WithoutCancel(t.Context()))
	for _, name := range []string{"pub", "sub"} {
		_, err = admin.Exec(t.Context(), "CREATE DATABASE "+name)
		require.NoError(t, err)
	}
	const tables = `
		CREATE TABLE films (id int PRIMARY KEY, title text);
		CREATE TABLE actors (id int PRIMARY KEY, name text);
		CREATE TABLE sales (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE sales_1 PARTITION OF sales FOR VALUES FROM (0) TO (10);`
	pub, err := pgx.Connect(t.Context(), server.DatabaseURL("pub"))
	require.NoError(t, err)
	defer pub.Close(context.WithoutCancel(t.Context()))
	publish := func(sql string, args ...any) {
		t.Helper()
		_, err := pub.Exec(t.Context(), sql, args...)
		require.NoError(t, err, sql)
	}
	publish(tables + `INSERT INTO films VALUES (1, 'Alien'), (2, 'Brazil'); INSERT INTO actors VALUES (1, 'Weaver');
		CREATE PUBLICATION p FOR TABLE films, actors, sales`)
	publish(`SELECT pg_create_logical_replication_slot('s', 'pgoutput')`) // not by CREATE SUBSCRIPTION, which would wait for itself within one cluster

	s := newStack(t, server.DatabaseURL("sub"), servertest.Redis(t), `
  - {table: films, tokens: ["films", "film:{id}"], always: true, max_keys: 10}
  - {table: actors, tokens: ["actors", "actor:{id}"]}
  - {table: sales, tokens: ["sales", "sale:{id}"], always: true}
`)
	s.exec(t, tables)
	succeed(t, "migrate", "up", "-c", s.config)
	a := startAgent(t, s.config)
	s.exec(t, `CREATE SUBSCRIPTION s CONNECTION '`+strings.ReplaceAll(server.DatabaseURL("pub"), "'", "''")+`' PUBLICATION p WITH (create_slot = false)`)
	t.Cleanup(func() { // else the slot keeps the publisher from stopping
		_, err := s.db.Exec(context.WithoutCancel(t.Context()), `ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s`)
		require.NoError(t, err)
	})
	s.awaitBump(t, "film:1", 0) // the initial copy

	bumps := func(sql string, tokens ...string) {
		t.Helper()
		before := make(map[string]uint64)
		for _, token := range tokens {
			before[token] = s.value(t, token)
		}
		publish(sql)
		for _, token := range tokens {
			s.awaitBump(t, token, before[token])
		}
	}
	bumps(`UPDATE films SET title = 'Aliens' WHERE id = 1`, "films", "film:1")
	bumps(`UPDATE films SET id = 3 WHERE id = 2`, "film:2", "film:3")
	bumps(`INSERT INTO sales VALUES (1, 1)`, "sales", "sale:1")
	bumps(`INSERT INTO films SELECT generate_series(100, 5000)`, "films", "film:*")
	require.Zero(t, s.value(t, "film:5000"), "max_keys bound what a transaction of the publisher leaves")
	bumps(`DELETE FROM films WHERE id = 3`, "film:3")
	bumps(`TRUNCATE films`, "films", "film:*")
	bumps(`TRUNCATE sales`, "sales", "sale:*")

	publish(`UPDATE actors SET name = 'x'; INSERT INTO films VALUES (9)`)
	s.awaitBump(t, "film:9", 0)
	require.Equal(t, "x", query[string](t, s, "SELECT name FROM actors"))
	require.Zero(t, s.value(t, "actor:1"), "without always, replicated changes go unseen")
	a.terminate(t)
}
