package listener

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestChangesArriveAndTheOutboxEmpties(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	exec(t, db, "INSERT INTO events VALUES ('before')")
	rec := newRecorder()
	l := start(t, url, rec)
	leads(t, l)
	require.Len(t, rec.resetReasons(), 1, "the first start resets")
	for _, k := range []string{"a", "b", "c"} {
		exec(t, db, "INSERT INTO events VALUES ($1)", k)
		eventually(t, func() bool { return rec.count(k) == 1 }, "the change arrives")
		time.Sleep(50 * time.Millisecond)
	}
	require.Equal(t, StateAsleep, l.Stats().State)
	eventually(t, func() bool { return query[int](t, db, "SELECT count(*) FROM icache.outbox_0") == 0 }, "the outbox empties")
	require.Equal(t, 4, rec.changes, "that of before the first start too")
	l.stop()
	exec(t, db, "INSERT INTO events VALUES ('while away')")
	l2 := start(t, url, rec)
	eventually(t, func() bool { return rec.count("while away") == 1 }, "the backlog arrives")
	require.Len(t, rec.resetReasons(), 1, "a restart of the listener resets nothing")
	require.Zero(t, rec.duplicates())
	require.Equal(t, map[string]int{"public.events": 5}, rec.tables)
	l2.stop()
	require.Equal(t, StateStopped, l2.Stats().State)
}
