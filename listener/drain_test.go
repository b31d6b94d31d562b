package listener

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// preset has the listener find a cursor from before everything in the outbox,
// as one finds that was away for a while.
func preset(t testing.TB, url string) {
	t.Helper()
	l, err := New(Config{URL: url, Handler: newRecorder()})
	require.NoError(t, err)
	s, err := l.connect(t.Context())
	require.NoError(t, err)
	defer s.close()
	e, err := s.readEpoch(t.Context())
	require.NoError(t, err)
	_, err = s.saveCursor(t.Context(), e, e.now, true)
	require.NoError(t, err)
}

func TestBacklogInPieces(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db, other := connect(t, url), connect(t, url)
	for range 25 {
		exec(t, db, "TRUNCATE events, icache.outbox_0, icache.outbox_1")
		preset(t, url)
		exec(t, other, "BEGIN; INSERT INTO events VALUES ('open')")
		want := 0
		for i := range 1 + rand.IntN(12) {
			n := 1 + rand.IntN(25)
			var sql strings.Builder
			for j := range n {
				fmt.Fprintf(&sql, "INSERT INTO events VALUES ('%d-%d');", i, j)
				if rand.IntN(10) == 0 {
					fmt.Fprintf(&sql, "SELECT setval('icache.active', %d);", j%2)
				}
			}
			exec(t, db, sql.String())
			want += n
		}
		rec := newRecorder()
		limit := 2 + rand.IntN(11)
		l := start(t, url, rec, func(l *Listener) {
			l.tune.chunkRows = limit
			l.hooks.limit = func() int { return limit }
		})
		eventually(t, func() bool { return rec.distinct() == want }, "the backlog arrives")
		exec(t, other, "COMMIT")
		eventually(t, func() bool { return rec.count("open") == 1 }, "the late one arrives")
		l.stop()
		require.Zero(t, rec.duplicates())
		require.Empty(t, rec.resetReasons())
	}
}

// One transaction may have more rows than fit into memory.
func TestLargeTransaction(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	preset(t, url)
	db := connect(t, url)
	exec(t, db, `BEGIN;
SELECT icache.record('events'::regclass, 'U', jsonb_build_array(jsonb_build_object('k', 'x' || g))) FROM generate_series(1, 20000) g;
SELECT setval('icache.active', 1);
SELECT icache.record('events'::regclass, 'U', jsonb_build_array(jsonb_build_object('k', 'y' || g))) FROM generate_series(1, 20000) g;
COMMIT`)
	exec(t, db, "INSERT INTO events VALUES ('after')")
	rec := newRecorder()
	var most atomic.Int64
	var rewritten atomic.Bool
	l := start(t, url, rec, func(l *Listener) {
		l.tune.chunkRows = 500
		l.hooks.read = func(b *batch) { most.Store(max(most.Load(), int64(len(b.arena)))) }
		l.hooks.files = func(table int) {
			if table == 1 && rewritten.CompareAndSwap(false, true) {
				exec(t, db, "VACUUM FULL icache.outbox_1") // rows change their places
			}
		}
	})
	eventually(t, func() bool { return rec.count("after") == 1 }, "everything arrives")
	require.Equal(t, 40001, rec.distinct())
	require.True(t, rewritten.Load())
	require.Less(t, most.Load(), int64(3<<20))
	require.Equal(t, []string{emptied}, rec.resetReasons(), "a new file might be an emptied one")
	l.stop()
}

// Few rows with many keys each must not fill the memory either.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	preset(t, url)
	db := connect(t, url)
	for i := range 60 {
		exec(t, db, fmt.Sprintf(`INSERT INTO events SELECT '%d-' || g || repeat(md5(g::text), 3) FROM generate_series(1, 300) g`, i))
	}
	exec(t, db, "BEGIN")
	for i := range 20 {
		exec(t, db, fmt.Sprintf(`INSERT INTO events SELECT 'one-%d-' || g || repeat(md5(g::text), 3) FROM generate_series(1, 300) g`, i))
	}
	exec(t, db, "COMMIT")
	rec := newRecorder()
	var most atomic.Int64
	l := start(t, url, rec, func(l *Listener) {
		l.tune.chunkBytes = 200_000
		l.hooks.read = func(b *batch) { most.Store(max(most.Load(), int64(len(b.arena)))) }
	})
	eventually(t, func() bool { return rec.distinct() == 80*300 }, "everything arrives")
	require.Zero(t, rec.duplicates())
	// A single row has 36 kB, and a page holds the pointers to several.
	require.Less(t, most.Load(), int64(3<<20))
	l.stop()
}

// Rows of another cluster have ids that are yet to come here.
func TestForeignRowsAreNotReadAgainAndAgain(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	preset(t, url)
	db := connect(t, url)
	exec(t, db, `INSERT INTO icache.outbox_0 VALUES ('900000000000', 'events'::regclass, 'U', '[{"k": "foreign"}]')`)
	rec := newRecorder()
	l := start(t, url, rec)
	leads(t, l)
	exec(t, db, "INSERT INTO events VALUES ('own')")
	eventually(t, func() bool { return rec.count("own") == 1 }, "the change arrives")
	eventually(t, func() bool { return query[int](t, db, "SELECT count(*) FROM icache.outbox_0") == 0 }, "foreign rows do not keep the table from being emptied")
	require.Zero(t, rec.count("foreign"))
	require.Equal(t, 1, rec.changes)
	l.stop()
}

func TestRelationNames(t *testing.T) {
	t.Parallel()
	url := servertest.Postgres(t)
	install(t, url)
	db := connect(t, url)
	exec(t, db, `
CREATE SCHEMA "Odd";
CREATE TABLE "Odd"."unMapped" (k text);
CREATE TABLE parent (k text, p int) PARTITION BY LIST (p);
CREATE TABLE middle PARTITION OF parent FOR VALUES IN (1, 2) PARTITION BY LIST (p);
CREATE TABLE leaf PARTITION OF middle FOR VALUES IN (1);
CREATE TRIGGER r AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION icache.captured_row();
CREATE TRIGGER r AFTER INSERT ON "Odd"."unMapped" FOR EACH ROW EXECUTE FUNCTION icache.captured_row();
INSERT INTO icache.tables VALUES ('parent', 'public.parent', '')`)
	rec := newRecorder()
	l := start(t, url, rec)
	leads(t, l)
	exec(t, db, `INSERT INTO parent VALUES ('a', 1); INSERT INTO leaf VALUES ('b', 1); INSERT INTO "Odd"."unMapped" VALUES ('c'); INSERT INTO events VALUES ('d')`)
	eventually(t, func() bool { return rec.distinct() == 4 }, "the changes arrive")
	require.Equal(t, map[string]int{"public.parent": 2, `"Odd"."unMapped"`: 1, "public.events": 1}, rec.tables)
	exec(t, db, `ALTER TABLE events RENAME TO happenings; INSERT INTO happenings VALUES ('e');
CREATE TABLE later PARTITION OF middle FOR VALUES IN (2); INSERT INTO later VALUES ('f', 2)`)
	eventually(t, func() bool { return rec.distinct() == 6 }, "the changes arrive")
	require.Equal(t, 2, rec.tables["public.events"], "a renamed table keeps its name")
	require.Equal(t, 3, rec.tables["public.parent"], "a new partition is known")
	n := len(rec.resetReasons())
	l.stop()
	exec(t, db, `INSERT INTO later VALUES ('g', 2); DROP TABLE later; INSERT INTO happenings VALUES ('h')`)
	l = start(t, url, rec)
	eventually(t, func() bool { return rec.count("h") == 1 }, "the change arrives")
	require.Len(t, rec.resetReasons(), n+1, "whatever changed in a dropped partition: nobody can say")
	require.Equal(t, uint64(1), l.Stats().Tables["public.events"].Changes)
	l.stop()
}
