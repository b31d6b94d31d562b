package migrations_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func join(texts []string) string {
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

const films = `CREATE TABLE films (id int PRIMARY KEY, genre int, title text, seen int NOT NULL DEFAULT 0);
	INSERT INTO films SELECT g, g % 3, 'film ' || g FROM generate_series(1, 10) g`

// TestStatements goes through the kinds of statements one by one.
func TestStatements(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		sql  string
		want []row
	}{
		{"insert one", `INSERT INTO films VALUES (11, 5, 'x')`,
			[]row{{"films", "I", `{"genre":"5","id":"11"}`}}},
		{"insert many", `INSERT INTO films VALUES (11, 5, 'x'), (12, NULL, 'y')`,
			[]row{{"films", "I", `{"genre":"5","id":"11"} {"genre":null,"id":"12"}`}}},
		{"insert nothing", `INSERT INTO films SELECT 11 WHERE false`, nil},
		{"update one", `UPDATE films SET title = 'x' WHERE id = 1`,
			[]row{{"films", "U", `{"genre":"1","id":"1"}`}}},
		{"update a key", `UPDATE films SET genre = 7 WHERE id = 1`,
			[]row{{"films", "U", `{"genre":"1","id":"1"} {"genre":"7","id":"1"}`}}},
		{"update the primary key", `UPDATE films SET id = 100 WHERE id = 1`,
			[]row{{"films", "U", `{"genre":"1","id":"1"} {"genre":"1","id":"100"}`}}},
		{"update many", `UPDATE films SET title = 'x' WHERE id IN (1, 2)`,
			[]row{{"films", "U", `{"genre":"1","id":"1"} {"genre":"2","id":"2"}`}}},
		{"update many of which some change", `UPDATE films SET title = CASE id WHEN 2 THEN 'x' ELSE title END WHERE id < 5`,
			[]row{{"films", "U", `{"genre":"2","id":"2"}`}}},
		{"update the primary key of many", `UPDATE films SET id = id + 100 WHERE id < 3`,
			[]row{{"films", "U", `{"genre":"1","id":"1"} {"genre":"1","id":"101"} {"genre":"2","id":"102"} {"genre":"2","id":"2"}`}}},
		{"update one without effect", `UPDATE films SET title = title WHERE id = 1`, nil},
		{"update many without effect", `UPDATE films SET title = title`, nil},
		{"update nothing", `UPDATE films SET title = 'x' WHERE id = -1`, nil},
		{"delete", `DELETE FROM films WHERE id IN (1, 2)`,
			[]row{{"films", "D", `{"genre":"1","id":"1"} {"genre":"2","id":"2"}`}}},
		{"delete nothing", `DELETE FROM films WHERE id = -1`, nil},
		{"two rows trade values", `UPDATE films f SET genre = (SELECT genre FROM films o WHERE o.id = 3 - f.id), title = (SELECT title FROM films o WHERE o.id = 3 - f.id) WHERE id IN (1, 2)`,
			[]row{{"films", "U", `{"genre":"1","id":"1"} {"genre":"1","id":"2"} {"genre":"2","id":"1"} {"genre":"2","id":"2"}`}}},
		{"on conflict do update", `INSERT INTO films VALUES (1, 9, 'x'), (11, 9, 'y') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title`,
			[]row{{"films", "U", `{"genre":"1","id":"1"}`}, {"films", "I", `{"genre":"9","id":"11"}`}}},
		{"on conflict do nothing", `INSERT INTO films VALUES (1, 9, 'x') ON CONFLICT DO NOTHING`, nil},
		{"merge", `MERGE INTO films USING (VALUES (1, 'x'), (2, NULL), (11, 'new')) s (id, title) ON films.id = s.id
			WHEN MATCHED AND s.title IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET title = s.title
			WHEN NOT MATCHED THEN INSERT VALUES (s.id, 4, s.title)`,
			[]row{{"films", "D", `{"genre":"2","id":"2"}`}, {"films", "U", `{"genre":"1","id":"1"}`}, {"films", "I", `{"genre":"4","id":"11"}`}}},
		{"truncate", `TRUNCATE films`, []row{{"films", "T", "unknown"}}},
		{"common table expressions", `WITH d AS (DELETE FROM films WHERE id = 1), i AS (INSERT INTO films VALUES (11, 4, '')) SELECT`,
			[]row{{"films", "I", `{"genre":"4","id":"11"}`}, {"films", "D", `{"genre":"1","id":"1"}`}}},
		{"view", `CREATE VIEW v AS SELECT id, title FROM films; UPDATE v SET title = 'x' WHERE id = 1`,
			[]row{{"films", "U", `{"genre":"1","id":"1"}`}}},
		{"rolled back savepoint", `BEGIN; UPDATE films SET title = 'x' WHERE id = 1; SAVEPOINT s; UPDATE films SET title = 'y' WHERE id = 2;
			ROLLBACK TO s; UPDATE films SET title = 'y' WHERE id = 3; COMMIT`,
			[]row{{"films", "U", `{"genre":"1","id":"1"}`}, {"films", "U", `{"genre":"0","id":"3"}`}}},
		{"rolled back", `BEGIN; UPDATE films SET title = 'x'; ROLLBACK`, nil},
		{"pl/pgsql", `DO $$ BEGIN FOR i IN 1..2 LOOP UPDATE films SET title = 'x' WHERE id = i; END LOOP; END $$`,
			[]row{{"films", "U", `{"genre":"1","id":"1"}`}, {"films", "U", `{"genre":"2","id":"2"}`}}},
		{"added column", `ALTER TABLE films ADD extra json; UPDATE films SET extra = '{}' WHERE id = 1; UPDATE films SET extra = '[]' WHERE id < 3`,
			[]row{{"films", "U", `{"genre":"1","id":"1"}`}, {"films", "U", `{"genre":"1","id":"1"} {"genre":"2","id":"2"}`}}},
	}
	b := setup(t, films, rule("films", "films", "film:{id}", "genre:{genre}"))
	for _, test := range tests {
		require.ElementsMatch(t, test.want, b.took(test.sql), test.name)
		b.took(`DROP VIEW IF EXISTS v; ALTER TABLE films DROP COLUMN IF EXISTS extra; TRUNCATE films;
			INSERT INTO films SELECT g, g % 3, 'film ' || g FROM generate_series(1, 10) g`)
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	b := setup(t, films, rule("films", "film:{id}"))
	_, err := b.conn.PgConn().CopyFrom(b.ctx, strings.NewReader("11\t1\tx\t0\n12\t1\ty\t0\n"), "COPY films FROM STDIN")
	require.NoError(t, err)
	require.Equal(t, []row{{"films", "I", `{"id":"11"} {"id":"12"}`}}, b.drain())
}

func TestBulk(t *testing.T) {
	t.Parallel()
	r := rule("films", "film:{id}", "genre:{genre}")
	r.MaxKeys = 4
	byGenre := rule("byg", "genre:{genre}")
	byGenre.MaxKeys = 4
	b := setup(t, films+"; CREATE TABLE byg (id int PRIMARY KEY, genre int, title text)", r, byGenre)
	require.Equal(t, []row{{"films", "I", "unknown"}}, b.took(`INSERT INTO films SELECT g, 1, 'x' FROM generate_series(11, 15) g`))
	require.Equal(t, []row{{"films", "U", "unknown"}}, b.took(`UPDATE films SET title = 'y'`))
	require.Equal(t, []row{{"films", "U", `{"genre":"0","id":"3"}`}}, b.took(`UPDATE films SET title = CASE id WHEN 3 THEN 'z' ELSE title END`),
		"few rows of many change")
	require.Empty(t, b.took(`UPDATE films SET title = title`))
	require.Equal(t, []row{{"films", "U", "unknown"}}, b.took(`UPDATE films SET genre = genre + 1 WHERE id < 4`), "old and new keys together")
	require.Equal(t, []row{{"films", "D", "unknown"}}, b.took(`DELETE FROM films`))

	require.Equal(t, []row{{"byg", "I", `{"genre":"0"} {"genre":"1"}`}}, b.took(`INSERT INTO byg SELECT g, g % 2, 'x' FROM generate_series(1, 5000) g`),
		"many rows, few keys")
	require.Equal(t, []row{{"byg", "U", `{"genre":"0"} {"genre":"1"}`}}, b.took(`UPDATE byg SET title = 'y'`))
	require.Equal(t, []row{{"byg", "U", `{"genre":"0"}`}}, b.took(`UPDATE byg SET title = CASE WHEN genre = 0 THEN 'z' ELSE title END`))
	require.Equal(t, []row{{"byg", "D", `{"genre":"0"} {"genre":"1"}`}}, b.took(`DELETE FROM byg`))
}

// TestColumns: changes of other columns than those named do not count.
func TestColumns(t *testing.T) {
	t.Parallel()
	r := rule("films", "film:{id}", "genre:{genre}")
	r.Columns = []string{"title"}
	b := setup(t, films, r)
	require.Empty(t, b.took(`UPDATE films SET seen = 1 WHERE id = 1; UPDATE films SET seen = 2`))
	require.Equal(t, []row{{"films", "U", `{"genre":"1","id":"1"}`}}, b.took(`UPDATE films SET title = 'x' WHERE id = 1`))
	require.Equal(t, []row{{"films", "U", `{"genre":"1","id":"1"}`}}, b.took(`UPDATE films SET title = 'y', seen = 5 WHERE id = 1 OR id = 1`))
	require.Equal(t, []row{{"films", "U", `{"genre":"2","id":"2"} {"genre":"8","id":"2"}`}},
		b.took(`UPDATE films SET genre = CASE id WHEN 2 THEN 8 ELSE genre END, seen = 6 WHERE id < 4`))
}

func TestWhen(t *testing.T) {
	t.Parallel()
	r := rule("films", "film:{id}")
	r.When = "films.genre > 5 -- the rare ones"
	r.Columns = []string{"title"}
	b := setup(t, films, r)
	one := []row{{"films", "U", `{"id":"1"}`}}
	require.Equal(t, []row{{"films", "I", `{"id":"12"}`}}, b.took(`INSERT INTO films VALUES (11, 1, ''), (12, 6, '')`))
	require.Empty(t, b.took(`INSERT INTO films VALUES (13, 1, '')`))
	require.Empty(t, b.took(`UPDATE films SET title = 'x' WHERE id = 1`))
	require.Empty(t, b.took(`UPDATE films SET title = 'y' WHERE id < 4`))
	require.Equal(t, one, b.took(`UPDATE films SET genre = 6 WHERE id = 1`), "begins to count")
	require.Equal(t, one, b.took(`UPDATE films SET title = 'z' WHERE id = 1`))
	require.Equal(t, one, b.took(`UPDATE films SET title = 'a' WHERE id < 4`))
	require.Empty(t, b.took(`UPDATE films SET genre = 7 WHERE id = 1`), "neither a key nor watched")
	require.Equal(t, one, b.took(`UPDATE films SET genre = 1 WHERE id = 1`), "ceases to count")
	require.Equal(t, one, b.took(`UPDATE films SET genre = CASE id WHEN 1 THEN 9 ELSE genre END WHERE id < 4`))
	require.Equal(t, one, b.took(`UPDATE films SET genre = 2 WHERE id < 4`))
	require.Equal(t, []row{{"films", "D", `{"id":"12"}`}}, b.took(`DELETE FROM films`))
}

func TestOn(t *testing.T) {
	t.Parallel()
	r := rule("films", "films")
	r.On = []mapping.Op{mapping.Delete}
	b := setup(t, films, r)
	require.Equal(t, []row{{"films", "D", "{}"}}, b.took(`INSERT INTO films VALUES (11); UPDATE films SET seen = 1; DELETE FROM films; TRUNCATE films`))
}

func TestPlainTokensOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, films+"; CREATE TABLE log (line text)", rule("films", "films"), rule("log", "log"))
	require.Equal(t, []row{{"films", "I", "{}"}, {"films", "U", "{}"}, {"films", "U", "{}"}, {"films", "D", "{}"}, {"films", "D", "{}"}}, b.took(`
		INSERT INTO films VALUES (11); UPDATE films SET seen = 2 WHERE id = 1; UPDATE films SET seen = 1;
		UPDATE films SET seen = 1; UPDATE films SET seen = 1 WHERE id = 1; DELETE FROM films WHERE id = 1; DELETE FROM films`))
	require.Equal(t, []row{{"log", "I", "{}"}, {"log", "U", "{}"}}, b.took(`INSERT INTO log VALUES ('a'), ('b'); UPDATE log SET line = 'c'; UPDATE log SET line = 'c'`))
}

// TestNoPrimaryKey compares whole rows.
func TestNoPrimaryKey(t *testing.T) {
	t.Parallel()
	r := rule("t", "g:{g}")
	r.Columns = []string{"v"}
	b := setup(t, `CREATE TABLE t (who text, g int, v json); INSERT INTO t VALUES ('a', 1, '1'), ('b', 1, '2'), ('c', 2, '3'), ('c', 2, '3')`, r)
	require.Empty(t, b.took(`UPDATE t SET v = v`))
	require.Equal(t, []row{{"t", "U", `{"g":"1"}`}}, b.took(`UPDATE t SET v = CASE who WHEN 'a' THEN '2'::json ELSE '1' END WHERE g = 1`), "traded")
	require.Equal(t, []row{{"t", "U", `{"g":"2"}`}}, b.took(`UPDATE t SET v = CASE g WHEN 2 THEN '9'::json ELSE v END`))
	require.Equal(t, []row{{"t", "U", `{"g":"2"} {"g":"3"}`}}, b.took(`UPDATE t SET g = 3 WHERE ctid = (SELECT max(ctid) FROM t WHERE g = 2)`))
	require.Equal(t, []row{{"t", "U", `{"g":"3"} {"g":"4"}`}}, b.took(`UPDATE t SET g = CASE g WHEN 3 THEN 4 ELSE g END`))
	require.Equal(t, []row{{"t", "D", `{"g":"1"} {"g":"2"} {"g":"4"}`}}, b.took(`DELETE FROM t`))
}

// TestDeferrablePrimaryKey: rows may share such a key until the end of the transaction.
func TestDeferrablePrimaryKey(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v int); INSERT INTO t VALUES (1, 1), (2, 2)`, rule("t", "t:{id}"))
	require.Equal(t, []row{{"t", "U", `{"id":"1"} {"id":"2"}`}}, b.took(`UPDATE t SET id = 3 - id`))
}
