package listener

import (
	"fmt"
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

// Instead of being granted them it may own the objects.
const agentOwner = `
CREATE ROLE limited LOGIN PASSWORD 'limited';
GRANT USAGE ON SCHEMA icache TO limited;
ALTER TABLE icache.outbox_0 OWNER TO limited;
ALTER TABLE icache.outbox_1 OWNER TO limited;
ALTER TABLE icache.cursor OWNER TO limited;
ALTER TABLE icache.tables OWNER TO limited;
ALTER TABLE icache.meta OWNER TO limited;
ALTER SEQUENCE icache.active OWNER TO limited;
ALTER SEQUENCE icache.overflow OWNER TO limited;
`

func TestUnprivilegedRole(t *testing.T) {
	t.Parallel()
	for name, rights := range map[string]string{"granted": agentRole, "owner": agentOwner} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testUnprivilegedRole(t, rights)
		})
	}
}

func testUnprivilegedRole(t *testing.T, rights string) {
	t.Helper()
	server := servertest.OwnPostgres(t)
	installLimit(t, server.URL(), 300_000)
	db := connect(t, server.URL())
	exec(t, db, rights)
	as, err := url.Parse(server.URL())
	require.NoError(t, err)
	as.User = url.UserPassword("limited", "limited")
	rec := newRecorder()
	l := start(t, as.String(), rec, quickRotation, func(l *Listener) { l.tune.chunkRows = 10; l.tune.bell.probeRate = 0; l.tune.bell.probe = 1 })
	leads(t, l)
	for round := range 3 { // transactions that are read by pages, before and after the tables were emptied
		exec(t, db, fmt.Sprintf(`BEGIN; SELECT icache.record('events'::regclass, 'U', jsonb_build_array(jsonb_build_object('k', 'x' || g || '-%d'))) FROM generate_series(1, 100) g; COMMIT`, round))
		eventually(t, func() bool { return rec.distinct() == 100*(round+1) }, "the changes arrive")
		eventually(t, func() bool { return query[int](t, db, outboxRows) == 0 }, "the outbox is emptied")
	}
	require.Zero(t, rec.duplicates())
	require.Len(t, rec.resetReasons(), 1, "the listener's own TRUNCATE is no gap")
	exec(t, db, "SELECT setval('icache.overflow', 1)")
	eventually(t, func() bool { return query[int](t, db, "SELECT last_value FROM icache.overflow") == 0 }, "the flag is cleared")
	exec(t, db, "INSERT INTO events VALUES ('after')")
	eventually(t, func() bool { return rec.count("after") == 1 }, "the change arrives")
	require.Equal(t, uint64(1), l.Stats().Connects)
	l.stop()
}
