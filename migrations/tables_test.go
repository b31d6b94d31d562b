package migrations_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func TestForeignKeyCascades(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE a (id int PRIMARY KEY);
		CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TABLE n (id int PRIMARY KEY, a int REFERENCES a ON DELETE SET NULL);
		INSERT INTO a VALUES (1), (2), (3); INSERT INTO c VALUES (10, 1), (20, 2), (21, 2); INSERT INTO n VALUES (100, 1)`,
		rule("a", "a:{id}"), rule("c", "c:{id}", "a:{a}"), rule("n", "n:{id}", "a:{a}"))
	require.ElementsMatch(t, []row{
		{"a", "D", `{"id":"1"} {"id":"2"}`},
		{"c", "D", `{"a":"1","id":"10"} {"a":"2","id":"20"} {"a":"2","id":"21"}`},
		{"n", "U", `{"a":"1","id":"100"} {"a":null,"id":"100"}`},
	}, b.took(`DELETE FROM a WHERE id < 3`))
	require.ElementsMatch(t, []row{
		{"c", "I", `{"a":"3","id":"30"}`},
		{"a", "U", `{"id":"3"} {"id":"4"}`},
		{"c", "U", `{"a":"3","id":"30"} {"a":"4","id":"30"}`},
	}, b.took(`INSERT INTO c VALUES (30, 3); UPDATE a SET id = 4`))
	require.ElementsMatch(t, []row{{"a", "T", "unknown"}, {"c", "T", "unknown"}, {"n", "T", "unknown"}}, b.took(`TRUNCATE a CASCADE`))
}

const measurements = `CREATE TABLE m (id int, day int, v int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
	CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10);
	CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (day);
	CREATE TABLE m2a PARTITION OF m2 FOR VALUES FROM (10) TO (20);
	INSERT INTO m VALUES (1, 1, 1), (2, 11, 1)`

func TestPartitions(t *testing.T) {
	t.Parallel()
	b := setup(t, measurements, rule("m", "m:{id}"))
	require.ElementsMatch(t, []row{{"m1", "I", `{"id":"3"}`}, {"m2a", "I", `{"id":"4"}`}}, b.took(`INSERT INTO m VALUES (3, 2, 0), (4, 12, 0)`))
	require.ElementsMatch(t, []row{{"m1", "U", `{"id":"1"}`}, {"m2a", "U", `{"id":"2"}`}}, b.took(`UPDATE m SET v = 2 WHERE id < 3`))
	require.Empty(t, b.took(`UPDATE m SET v = v`))
	require.ElementsMatch(t, []row{{"m1", "D", `{"id":"1"}`}, {"m2a", "I", `{"id":"1"}`}}, b.took(`UPDATE m SET day = 15 WHERE id = 1`), "moves")
	require.Equal(t, []row{{"m1", "I", `{"id":"5"}`}, {"m1", "U", `{"id":"5"} {"id":"6"}`}, {"m1", "D", `{"id":"3"}`}, {"m1", "D", `{"id":"6"}`}},
		b.took(`INSERT INTO m1 VALUES (5, 1, 1); UPDATE m1 SET id = 6 WHERE id = 5; DELETE FROM m1`), "directly")
	require.Equal(t, []row{{"m1", "T", "unknown"}, {"m2a", "T", "unknown"}}, b.took(`TRUNCATE m1; TRUNCATE ONLY m2a`))
	require.ElementsMatch(t, []row{{"m", "T", "unknown"}, {"m1", "T", "unknown"}, {"m2", "T", "unknown"}, {"m2a", "T", "unknown"}}, b.took(`TRUNCATE m`))

	b.exec(`CREATE TABLE m3 PARTITION OF m FOR VALUES FROM (20) TO (30); CREATE TABLE m4 (id int NOT NULL, day int NOT NULL, v int, PRIMARY KEY (id, day));
		ALTER TABLE m ATTACH PARTITION m4 FOR VALUES FROM (30) TO (40)`)
	require.Equal(t, []row{{"m3", "I", `{"id":"7"}`}, {"m4", "I", `{"id":"8"}`}, {"m4", "U", `{"id":"8"}`}},
		b.took(`INSERT INTO m VALUES (7, 20, 1); INSERT INTO m4 VALUES (8, 30, 1); UPDATE m SET v = 9 WHERE id = 8`), "later partitions")

	plan, err := b.migrator().Plan(b.ctx)
	require.NoError(t, err)
	require.Len(t, plan.Changes, 2, "TRUNCATE triggers of later partitions")
	_, err = b.migrator().Up(b.ctx)
	require.NoError(t, err)
	require.Equal(t, []row{{"m4", "T", "unknown"}}, b.took(`TRUNCATE m4`))

	b.exec(`ALTER TABLE m DETACH PARTITION m3`)
	require.Empty(t, b.took(`INSERT INTO m3 VALUES (9, 20, 1); DELETE FROM m3`), "no longer part of the table")
	b.upToDateAfterUp()
	_, err = b.migrator().Down(b.ctx)
	require.NoError(t, err)
	b.requireClean()
}

// TestPartitionMoveIsAnUpdate: row triggers see a delete and an insert.
func TestPartitionMoveIsAnUpdate(t *testing.T) {
	t.Parallel()
	r := rule("m", "m:{id}")
	r.On = []mapping.Op{mapping.Update}
	b := setup(t, measurements, r)
	require.Equal(t, []row{{"m1", "U", `{"id":"1"}`}, {"m2a", "U", `{"id":"1"}`}}, b.took(`UPDATE m SET day = 15 WHERE id = 1`))
}

func TestPartitionConditions(t *testing.T) {
	t.Parallel()
	r := rule("m", "m:{id}")
	r.When, r.Columns = "v > 5", []string{"v"}
	b := setup(t, measurements, r)
	require.Empty(t, b.took(`UPDATE m SET v = 2; INSERT INTO m VALUES (3, 3, 3); DELETE FROM m WHERE id = 3`))
	require.Equal(t, []row{{"m1", "U", `{"id":"1"}`}}, b.took(`UPDATE m SET v = 6 WHERE id = 1`))
	require.Equal(t, []row{{"m1", "U", `{"id":"1"}`}}, b.took(`UPDATE m SET v = 7 WHERE id = 1`))
	require.Empty(t, b.took(`UPDATE m SET day = 2 WHERE id = 1`), "not watched")
	require.Equal(t, []row{{"m1", "U", `{"id":"1"}`}}, b.took(`UPDATE m SET v = 1 WHERE id = 1`))
	require.Equal(t, []row{{"m1", "U", `{"id":"6"}`}}, b.took(`UPDATE m SET v = 8, id = 6 WHERE id = 1`))
	require.Equal(t, []row{{"m1", "U", `{"id":"6"} {"id":"7"}`}}, b.took(`UPDATE m SET id = 7 WHERE id = 6`))
	require.Equal(t, []row{{"m1", "D", `{"id":"7"}`}}, b.took(`DELETE FROM m WHERE id = 7`))
}

// TestInheritance: statements that name a child fire the child's triggers,
// those that name the parent the parent's.
func TestInheritance(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE city (id int PRIMARY KEY, people int); CREATE TABLE capital (country text) INHERITS (city);
		CREATE TABLE odd (extra int) INHERITS (capital); INSERT INTO city VALUES (1, 1); INSERT INTO capital VALUES (2, 2, 'x'); INSERT INTO odd VALUES (3, 3, 'y', 1)`,
		rule("city", "city:{id}"))
	require.Equal(t, []row{{"city", "U", `{"id":"1"} {"id":"2"} {"id":"3"}`}}, b.took(`UPDATE city SET people = people + 1`))
	require.Equal(t, []row{{"capital", "I", `{"id":"4"}`}, {"capital", "U", `{"id":"2"} {"id":"3"} {"id":"4"}`}, {"odd", "D", `{"id":"3"}`}, {"capital", "U", `{"id":"2"}`}},
		b.took(`INSERT INTO capital VALUES (4, 4, 'z'); UPDATE capital SET people = 0; DELETE FROM odd; UPDATE capital SET country = 'new' WHERE id = 2`))
	require.ElementsMatch(t, []row{{"city", "T", "unknown"}, {"capital", "T", "unknown"}, {"odd", "T", "unknown"}}, b.took(`TRUNCATE city`))

	var names []string
	require.NoError(t, b.conn.QueryRow(b.ctx, `SELECT array_agg(name) FROM icache.tables`).Scan(&names))
	require.Equal(t, []string{"public.city", "public.city", "public.city"}, names)
}

func TestOddNames(t *testing.T) {
	t.Parallel()
	long := "a_very_long_name_of_a_table_that_fills_every_byte_there_is_1234"
	odd := mapping.TableName{Schema: `my "Sch'ema"`, Name: `Ta.ble \ $icache$`}
	first := mapping.Rule{Table: odd, Tokens: []string{`x:{"Ke""y"}`, `y:{"sp ace"}`}, Columns: []string{`"va'l\ue"`}, When: `"va'l\ue" <> 'n''o'`}
	second := mapping.Rule{Table: mapping.TableName{Schema: "public", Name: long}, Tokens: []string{"id:{id}", "Key:{Key}"}}
	// Columns with the names of everything that the functions use.
	names := rule("names", "t:{rows}", "k:{keys}", "o:{o}", "n:{n}", "r:{icache_rows}", "k:{icache_keys}", "w:{whole}", "p:{present}", "k1:{k1}")
	names.When = "o > 0 AND icache_rows > 0 AND old_rows > 0"
	b := setup(t, `CREATE SCHEMA "my ""Sch'ema"""; CREATE TABLE "my ""Sch'ema"""."Ta.ble \ $icache$" ("Ke""y" text PRIMARY KEY, "sp ace" int, "va'l\ue" text);
		CREATE TABLE `+long+` (id int PRIMARY KEY, "Key" text);
		CREATE TABLE names (rows int, keys int, o int, n int, icache_rows int, icache_keys int, whole int, present int, k1 int, old_rows int, new_rows int, k int, r int, c int, PRIMARY KEY (rows, present))`,
		first, second, names)
	require.Equal(t, []row{{`"my ""Sch'ema"""."Ta.ble \ $icache$"`, "I", `{"\"Ke\"\"y\"":"a'b\\","\"sp ace\"":"1"} {"\"Ke\"\"y\"":"c","\"sp ace\"":null}`}},
		b.took(`INSERT INTO "my ""Sch'ema"""."Ta.ble \ $icache$" VALUES ('a''b\', 1, 'x'), ('c', NULL, 'x'), ('d', 1, 'n''o')`))
	require.Equal(t, []row{{`"my ""Sch'ema"""."Ta.ble \ $icache$"`, "U", `{"\"Ke\"\"y\"":"a'b\\","\"sp ace\"":"1"} {"\"Ke\"\"y\"":"c","\"sp ace\"":null}`}},
		b.took(`UPDATE "my ""Sch'ema"""."Ta.ble \ $icache$" SET "va'l\ue" = 'y' WHERE "Ke""y" <> 'd'`))
	require.Equal(t, []row{{long, "I", `{"Key":"k","id":"1"}`}, {long, "D", `{"Key":"k","id":"1"}`}},
		b.took(fmt.Sprintf(`INSERT INTO %s VALUES (1, 'k'); DELETE FROM %[1]s`, long)))

	one := `{"icache_keys":"6","icache_rows":"5","k1":"9","keys":"2","n":"4","o":"3","present":"8","rows":"1","whole":"7"}`
	two := `{"icache_keys":"6","icache_rows":"5","k1":"9","keys":"2","n":"4","o":"3","present":"8","rows":"2","whole":"7"}`
	require.Equal(t, []row{{"names", "I", one}, {"names", "I", two}, {"names", "U", one}, {"names", "U", one + " " + two}, {"names", "D", one + " " + two}},
		b.took(`INSERT INTO names VALUES (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14); INSERT INTO names VALUES (2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14);
			UPDATE names SET c = 0 WHERE rows = 1; UPDATE names SET c = 1; DELETE FROM names`))
}

func TestGeneratedAndIdentityColumns(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE g (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED)`, rule("g", "g:{id}", "t:{twice}"))
	require.Equal(t, []row{{"g", "I", `{"id":"1","twice":"10"} {"id":"2","twice":"12"}`}, {"g", "U", `{"id":"1","twice":"10"} {"id":"1","twice":"14"}`}},
		b.took(`INSERT INTO g (a) VALUES (5), (6); UPDATE g SET a = 7 WHERE id = 1`))
}

func TestCompositeKeysAndNulls(t *testing.T) {
	t.Parallel()
	b := setup(t, `CREATE TABLE line (ord int, pos int, item text, PRIMARY KEY (ord, pos))`, rule("line", "line:{ord}:{pos}", "item:{item}"))
	require.Equal(t, []row{{"line", "I", `{"item":"a","ord":"1","pos":"2"} {"item":null,"ord":"1","pos":"1"}`}}, b.took(`INSERT INTO line VALUES (1, 1, NULL), (1, 2, 'a')`))
	require.Equal(t, []row{{"line", "U", `{"item":"b","ord":"1","pos":"1"} {"item":null,"ord":"1","pos":"1"}`}}, b.took(`UPDATE line SET item = 'b' WHERE pos = 1`))
	require.Equal(t, []row{{"line", "U", `{"item":"a","ord":"1","pos":"2"} {"item":"b","ord":"1","pos":"1"} {"item":null,"ord":"1","pos":"1"} {"item":null,"ord":"1","pos":"2"}`}},
		b.took(`UPDATE line SET item = NULL`))
	require.Empty(t, b.took(`UPDATE line SET item = NULL; UPDATE line SET item = NULL WHERE pos = 1`))
}

// TestAlways: on a subscriber of logical replication only such triggers fire.
func TestAlways(t *testing.T) {
	t.Parallel()
	always, never := rule("films", "film:{id}"), rule("other", "other:{id}")
	always.Always = true
	b := setup(t, films+`; CREATE TABLE other (id int PRIMARY KEY)`, always, never)
	require.Equal(t, []row{{"films", "I", `{"id":"11"}`}, {"films", "I", `{"id":"12"}`}, {"films", "U", `{"id":"1"}`}, {"films", "D", `{"id":"1"}`}, {"films", "T", "unknown"}},
		b.took(`SET session_replication_role = replica; INSERT INTO films VALUES (11), (12); UPDATE films SET seen = 1 WHERE id = 1; DELETE FROM films WHERE id = 1;
			TRUNCATE films; INSERT INTO other VALUES (1); RESET session_replication_role`))
}
