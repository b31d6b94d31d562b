package migrations_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// TestOverflow: past the size limit nothing is written, and a flag says so.
func TestOverflow(t *testing.T) {
	t.Parallel()
	b := setup(t, films)
	b.rules(filmRule())
	b.cfg.SizeLimit = 32 << 10
	b.upToDateAfterUp()
	n := b.names()
	overflow := func() (set bool) {
		require.NoError(t, b.conn.QueryRow(b.ctx, "SELECT last_value = 1 FROM "+n.Overflow()).Scan(&set))
		return set
	}
	for i := 0; !overflow(); i++ {
		require.Less(t, i, 100, "never noticed")
		b.exec(`DO $$ BEGIN FOR i IN 1..200 LOOP UPDATE films SET seen = seen + 1 WHERE id = 1; END LOOP; END $$`)
	}
	var before, after int
	require.NoError(t, b.conn.QueryRow(b.ctx, "SELECT count(*) FROM "+n.Ident("outbox")).Scan(&before))
	b.exec(`UPDATE films SET seen = seen + 1; INSERT INTO films VALUES (11); TRUNCATE films`)
	require.NoError(t, b.conn.QueryRow(b.ctx, "SELECT count(*) FROM "+n.Ident("outbox")).Scan(&after))
	require.Equal(t, before, after)
	b.exec("SELECT setval('" + n.Overflow() + "', 0); TRUNCATE " + n.Outbox(0))
	require.Equal(t, []row{{"films", "I", `{"genre":null,"id":"11"}`}}, b.took(`INSERT INTO films VALUES (11)`))
}

// TestDoorbell rings only while the agent sleeps, which it says by a lock.
func TestDoorbell(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	n := b.names()
	agent := b.connect()
	_, err := agent.Exec(b.ctx, "LISTEN "+pgx.Identifier{n.Channel()}.Sanitize())
	require.NoError(t, err)
	rings := func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, 300*time.Millisecond)
		defer cancel()
		note, err := agent.WaitForNotification(ctx)
		if err == nil {
			require.Empty(t, note.Payload)
		}
		return err == nil
	}
	b.exec(`UPDATE films SET seen = 1 WHERE id = 1`)
	require.False(t, rings(), "awake")

	var locked bool
	require.NoError(t, agent.QueryRow(b.ctx, "SELECT pg_try_advisory_lock($1)", n.DoorbellKey()).Scan(&locked))
	require.True(t, locked)
	b.exec(`BEGIN; UPDATE films SET seen = 2; UPDATE films SET seen = 3; COMMIT`)
	require.True(t, rings())
	require.False(t, rings(), "once for a transaction")
	b.exec(`UPDATE films SET seen = 3`)
	require.False(t, rings(), "nothing has changed")
	b.exec(`SELECT setval('` + n.Overflow() + `', 1); UPDATE films SET seen = 4`)
	require.True(t, rings(), "also when nothing is written any more")
	b.exec(`TRUNCATE films`)
	require.True(t, rings())

	_, err = agent.Exec(b.ctx, "SELECT pg_advisory_unlock($1)", n.DoorbellKey())
	require.NoError(t, err)
	b.exec(`BEGIN; INSERT INTO films VALUES (1)`)
	require.NoError(t, agent.QueryRow(b.ctx, "SELECT pg_try_advisory_lock($1)", n.DoorbellKey()).Scan(&locked))
	require.False(t, locked, "a writer is in flight")
	b.exec(`COMMIT`)
	require.NoError(t, agent.QueryRow(b.ctx, "SELECT pg_try_advisory_lock($1)", n.DoorbellKey()).Scan(&locked))
	require.True(t, locked)
}

// TestPreparedTransactions work as long as nobody sleeps on the doorbell.
func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t, "max_prepared_transactions=5")
	b := &bench{T: t, ctx: t.Context(), url: server.URL()}
	b.conn = b.connect()
	b.exec(films)
	b.rules(filmRule())
	b.upToDateAfterUp()
	b.exec(`BEGIN; UPDATE films SET seen = 1 WHERE id = 1; PREPARE TRANSACTION 'a'`)
	b.exec(`BEGIN; UPDATE films SET seen = 1 WHERE id = 2; PREPARE TRANSACTION 'b'`)
	b.exec(`ROLLBACK PREPARED 'b'`)
	var count int
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT count(*) FROM icache.outbox`).Scan(&count))
	require.Zero(t, count)
	b.exec(`COMMIT PREPARED 'a'`)
	require.Equal(t, []row{{"films", "U", `{"genre":"1","id":"1"}`}}, b.drain())
}

// TestUnwritableOutbox fails the statement: nobody would know of the change.
func TestUnwritableOutbox(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	b.exec(`REVOKE INSERT ON icache.outbox_0 FROM icache_writer`)
	_, err := b.conn.Exec(b.ctx, `UPDATE films SET seen = 1`)
	require.ErrorContains(t, err, "permission denied for table outbox_0")
}

// TestNoSubtransactionIDs: guards must not use up ids, of which 64 fit a snapshot.
func TestNoSubtransactionIDs(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	next := func() (xid uint64) {
		require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`).Scan(&xid))
		return xid
	}
	// Others use the server too: the best of several runs counts.
	used := uint64(1000)
	for range 20 {
		before := next()
		b.exec(`DO $$ BEGIN FOR i IN 1..100 LOOP UPDATE films SET seen = seen + 1 WHERE id = 1; END LOOP; END $$`)
		used = min(used, next()-before)
	}
	require.Less(t, used, uint64(50))
}

// TestBulkStatement: any number of rows in one statement are one row of the outbox.
func TestBulkStatement(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes a while")
	}
	b := setup(t, `CREATE TABLE big (id int PRIMARY KEY, genre int, v int)`, rule("big", "big:{id}", "genre:{genre}"))
	require.Equal(t, []row{{"big", "I", "unknown"}}, b.took(`INSERT INTO big SELECT g, g % 5, 0 FROM generate_series(1, 300000) g`))
	require.Equal(t, []row{{"big", "U", "unknown"}}, b.took(`UPDATE big SET v = 1`))
	b.rules(rule("big", "genre:{genre}"))
	b.upToDateAfterUp()
	all := `{"genre":"0"} {"genre":"1"} {"genre":"2"} {"genre":"3"} {"genre":"4"}`
	require.Equal(t, []row{{"big", "U", `{"genre":"3"}`}}, b.took(`UPDATE big SET v = CASE WHEN id = 150003 THEN 2 ELSE v END`))
	require.Equal(t, []row{{"big", "D", all}}, b.took(`DELETE FROM big`))
}

// TestLockTimeout: a statement does not wait for the table that is not in use,
// which a rotation may have locked, in vain.
func TestLockTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t, films, filmRule())
	other := b.connect()
	_, err := other.Exec(b.ctx, `BEGIN; LOCK TABLE icache.outbox_1 IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	b.exec(`SET lock_timeout = '1ms'`)
	for range 100 { // of two rows each, so that all go through record(), which looks at the size one time in ten
		b.exec(`UPDATE films SET seen = seen + 1 WHERE id < 3`)
	}
	var rows int
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT count(*) FROM icache.outbox_0`).Scan(&rows))
	require.Equal(t, 100, rows)
}
