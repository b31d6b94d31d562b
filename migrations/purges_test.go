package migrations_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// TestUpgradeAddsPurges: objects made before there was the table of purges get
// it, and the agent's role its rights, with nothing else touched.
func TestUpgradeAddsPurges(t *testing.T) {
	t.Parallel()
	b := setup(t, films)
	b.cfg.AgentRole = b.role("")
	b.rules(filmRule())
	b.upToDateAfterUp()
	b.exec(`DROP TABLE icache.purges`)

	plan, err := b.migrator().Up(b.ctx)
	require.NoError(t, err)
	var objects []string
	for _, c := range plan.Changes {
		objects = append(objects, c.Object)
		require.Empty(t, c.Table, "tables of the application are left alone")
	}
	require.Contains(t, objects, "table purges")
	require.Contains(t, objects, "rights of role "+b.cfg.AgentRole)
	b.upToDateAfterUp()

	agent := b.as(b.cfg.AgentRole)
	_, err = agent.Exec(b.ctx, `INSERT INTO `+outbox.In("").Purges()+` (agent, sink, key) VALUES ('a', 'edge', 'movie:1');
		UPDATE icache.purges SET agent = 'b'; DELETE FROM icache.purges WHERE agent = 'b'`)
	require.NoError(t, err)
}
