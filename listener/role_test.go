package listener

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// The agent's role needs these rights and no others.
const agentRole = `
CREATE ROLE limited LOGIN PASSWORD 'limited';
GRANT USAGE ON SCHEMA icache TO limited;
GRANT SELECT, TRUNCATE ON icache.outbox_0, icache.outbox_1 TO limited;
GRANT SELECT ON icache.tables, icache.meta TO limited;
GRANT SELECT, INSERT, UPDATE, DELETE ON icache.cursor TO limited;
GRANT SELECT, UPDATE ON SEQUENCE icache.active, icache.overflow TO limited;
`

func TestUnprivilegedRole(t *testing.T) {
	t.Parallel()
	server := servertest.OwnPostgres(t)
	installLimit(t, server.URL(), 300_000)
	db := connect(t, server.URL())
	exec(t, db, agentRole)
	as, err := url.Parse(server.URL())
	require.NoError(t, err)
	as.User = url.UserPassword("limited", "limited")
	rec := newRecorder()
	l := start(t, as.String(), rec, quickRotation, func(l *Listener) { l.tune.chunkRows = 10; l.tune.bell.probeRate = 0; l.tune.bell.probe = 1 })
	leads(t, l)
	exec(t, db, `BEGIN; SELECT icache.record('events'::regclass, 'U', jsonb_build_array(jsonb_build_object('k', 'x' || g))) FROM generate_series(1, 100) g; COMMIT`)
	eventually(t, func() bool { return rec.distinct() == 100 }, "the changes arrive")
	eventually(t, func() bool { return query[int](t, db, outboxRows) == 0 }, "the outbox is emptied")
	exec(t, db, "SELECT setval('icache.overflow', 1)")
	eventually(t, func() bool { return query[int](t, db, "SELECT last_value FROM icache.overflow") == 0 }, "the flag is cleared")
	exec(t, db, "INSERT INTO events VALUES ('after')")
	eventually(t, func() bool { return rec.count("after") == 1 }, "the change arrives")
	require.Equal(t, uint64(1), l.Stats().Connects)
	l.stop()
}
