package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

// TestRowLevelBulk: after max_keys rows in a transaction one row stands for the
// whole table, and nothing follows it.
func TestRowLevelBulk(t *testing.T) {
	t.Parallel()
	partitioned := rule("m", "m:{id}")
	partitioned.MaxKeys = 3
	always := rule("films", "film:{id}")
	always.MaxKeys, always.Always = 3, true
	plain := rule("log", "log")
	plain.Always = true
	b := setup(t, films+"; CREATE TABLE log (id int); "+measurements, partitioned, always, plain)

	keys := func(table string, op mapping.Op, from, to int) (list []row) {
		for id := from; id <= to; id++ {
			list = append(list, row{table, fmt.Sprintf("%c", op), fmt.Sprintf(`{"id":"%d"}`, id)})
		}
		return list
	}
	for _, test := range []struct {
		name, sql string
		want      []row
	}{
		{"as many as allowed", `INSERT INTO films SELECT generate_series(11, 13)`, keys("films", 'I', 11, 13)},
		{"one more", `INSERT INTO films SELECT generate_series(14, 17)`, append(keys("films", 'I', 14, 16), row{"films", "I", "unknown"})},
		{"many more", `INSERT INTO films SELECT generate_series(18, 5000)`, append(keys("films", 'I', 18, 20), row{"films", "I", "unknown"})},
		{"every transaction counts anew", `UPDATE films SET seen = 1 WHERE id < 3`, keys("films", 'U', 1, 2)},
		{"rows that did not change do not count", `UPDATE films SET seen = 1 WHERE id < 4`, keys("films", 'U', 3, 3)},
		{"statements of a transaction count together", `BEGIN; UPDATE films SET seen = 2 WHERE id < 3; UPDATE films SET seen = 2 WHERE id = 3;
			UPDATE films SET seen = 2 WHERE id = 4; DELETE FROM films WHERE id = 5; COMMIT`, append(keys("films", 'U', 1, 3), row{"films", "U", "unknown"})},
		{"TRUNCATE is recorded all the same", `BEGIN; DELETE FROM films WHERE id > 10; TRUNCATE films; COMMIT`,
			append(keys("films", 'D', 11, 13), row{"films", "D", "unknown"}, row{"films", "T", "unknown"})},
		{"partitions count together, and the table stands for them", `INSERT INTO m SELECT g, g % 20, 1 FROM generate_series(3, 5000) g`, []row{
			{"m1", "I", `{"id":"3"}`}, {"m1", "I", `{"id":"4"}`}, {"m1", "I", `{"id":"5"}`}, {"m", "I", "unknown"},
		}},
		{"a partition by its name", `UPDATE m2a SET v = 9`, []row{
			{"m2a", "U", `{"id":"2"}`}, {"m2a", "U", `{"id":"10"}`}, {"m2a", "U", `{"id":"11"}`}, {"m", "U", "unknown"},
		}},
		{"tables count apart", `BEGIN; DELETE FROM m WHERE id > 4990; INSERT INTO films VALUES (1); COMMIT`, []row{
			{"m1", "D", `{"id":"5000"}`}, {"m2a", "D", `{"id":"4991"}`}, {"m2a", "D", `{"id":"4992"}`}, {"m", "D", "unknown"}, {"films", "I", `{"id":"1"}`},
		}},
		{"no key, one row", `INSERT INTO log SELECT generate_series(1, 5000); INSERT INTO log VALUES (1)`, []row{{"log", "I", "{}"}}},
	} {
		require.ElementsMatch(t, test.want, b.took(test.sql), test.name)
	}
}

// TestRowLevelBulkSavepoints: a row that was rolled back does not stand for
// what is written afterwards.
func TestRowLevelBulkSavepoints(t *testing.T) {
	t.Parallel()
	r := rule("films", "film:{id}")
	r.MaxKeys, r.Always = 2, true
	b := setup(t, films, r)
	all := row{"films", "U", "unknown"}
	one := func(id int) row { return row{"films", "U", fmt.Sprintf(`{"id":"%d"}`, id)} }
	update := func(where string) string { return "UPDATE films SET seen = seen + 1 WHERE id " + where + "; " }

	for _, test := range []struct {
		name, sql string
		want      []row
	}{
		{"rolled back as a whole", `SAVEPOINT s; ` + update("< 9") + `ROLLBACK TO s; ` + update("= 1"), []row{one(1)}},
		{"counted on from before", update("= 1") + `SAVEPOINT s; ` + update("< 9") + `ROLLBACK TO s; ` + update("= 2") + update("= 3"), []row{one(1), one(2), all}},
		{"too many again", `SAVEPOINT s; ` + update("< 9") + `ROLLBACK TO s; ` + update("< 9"), []row{one(1), one(2), all}},
		{"released", `SAVEPOINT s; ` + update("< 9") + `RELEASE s; ` + update("= 1"), []row{one(1), one(2), all}},
		{"released, then rolled back further out", `SAVEPOINT o; SAVEPOINT s; ` + update("< 9") + `RELEASE s; ROLLBACK TO o; ` + update("= 9"), []row{one(9)}},
		{"before the savepoint", update("< 9") + `SAVEPOINT s; ` + update("= 1") + `ROLLBACK TO s; ` + update("= 2"), []row{one(1), one(2), all}},
		{"an exception in PL/pgSQL", `DO $$ BEGIN BEGIN UPDATE films SET seen = seen + 1; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END;
			UPDATE films SET seen = seen + 1 WHERE id = 4; END $$; `, []row{one(4)}},
		{"a statement that failed", `SAVEPOINT s; DO $$ BEGIN UPDATE films SET seen = seen + 1; PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END $$; ` +
			update("= 5"), []row{one(5)}},
	} {
		require.ElementsMatch(t, test.want, b.took("BEGIN; "+test.sql+"COMMIT"), test.name)
		require.ElementsMatch(t, []row{one(6)}, b.took(update("= 6")), "%s: nothing is left of it", test.name)
	}

	// As if somebody had set for the session what the functions keep.
	var setting string
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT (regexp_match(prosrc, 'icache\.all_\w+'))[1] FROM pg_proc WHERE proname = 'public_films_row'`).Scan(&setting))
	b.exec(`SELECT set_config($1, pg_current_xact_id()::text, false), set_config($2, 'nonsense', false)`, setting, strings.Replace(setting, "all", "rows", 1))
	require.ElementsMatch(t, []row{all}, b.took(update("= 1")+update("= 2")), "unknown, and recorded")
}

// TestRowLevelBulkBroken: a rule that no longer fits does not write a row for each row either.
func TestRowLevelBulkBroken(t *testing.T) {
	t.Parallel()
	b := setup(t, measurements, rule("m", "m:{id}", "v:{v}"))
	b.exec(`ALTER TABLE m RENAME v TO w`)
	require.Equal(t, []row{{"m", "U", "unknown"}}, b.took(`UPDATE m SET w = 5`))
	require.Equal(t, []row{{"m", "I", "unknown"}}, b.took(`INSERT INTO m1 SELECT generate_series(10, 5000), 1`))
}

// TestRowLevelBulkBelowARoot: the table has become a partition of one that has no rule.
func TestRowLevelBulkBelowARoot(t *testing.T) {
	t.Parallel()
	r := rule("m", "m:{id}")
	r.MaxKeys = 1
	b := setup(t, measurements, r)
	b.exec(`CREATE TABLE root (LIKE m) PARTITION BY RANGE (day); ALTER TABLE root ATTACH PARTITION m FOR VALUES FROM (0) TO (20)`)
	require.Equal(t, []row{{"m2a", "I", `{"id":"10"}`}, {"m", "I", "unknown"}}, b.took(`INSERT INTO root SELECT g, 11 FROM generate_series(10, 5000) g`))
}
