package migrations_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/migrations"
)

// TestUpgradeFunctions: what releases before installed for filmRule is known as
// out of date, not as edited by hand, still records changes, and is replaced
// without a lock on any table of the application.
func TestUpgradeFunctions(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	old, err := os.ReadFile("testdata/upgrade/functions_1.sql")
	require.NoError(t, err)
	b.exec(string(old))
	change := []row{{"films", "U", `{"genre":"1","id":"1"}`}}
	require.Equal(t, change, b.took(`UPDATE films SET seen = seen + 1 WHERE id = 1`))

	status, err := b.migrator().Status(b.ctx)
	require.NoError(t, err)
	require.Equal(t, migrations.StateStale, status.Tables[0].State)
	require.Contains(t, status.Tables[0].Differences, migrations.Difference{Object: "function icache.public_films_update", State: migrations.StateStale})

	other := b.connect()
	_, err = other.Exec(b.ctx, "BEGIN; LOCK TABLE films IN ROW EXCLUSIVE MODE")
	require.NoError(t, err)
	b.upToDateAfterUp()
	require.Equal(t, change, b.took(`UPDATE films SET seen = seen + 1 WHERE id = 1`), "by a session that had run the former functions")
}

// TestOtherTableAndFullOutbox: a single row takes the table in use, and is left
// to record() when the outbox is full.
func TestOtherTableAndFullOutbox(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	n := b.names()
	b.exec(`SELECT setval('` + n.Active() + `', 1)`)
	b.exec(`UPDATE films SET seen = seen + 1 WHERE id = 1; UPDATE films SET seen = seen + 1 WHERE id < 3`)
	var rows [2]int
	for i := range rows {
		require.NoError(t, b.conn.QueryRow(b.ctx, "SELECT count(*) FROM "+n.Outbox(i)).Scan(&rows[i]))
	}
	require.Equal(t, [2]int{0, 2}, rows)
	b.drain()
	b.exec(`SELECT setval('` + n.Overflow() + `', 1)`)
	require.Empty(t, b.took(`UPDATE films SET seen = seen + 1 WHERE id = 1; INSERT INTO films VALUES (11)`))
}
