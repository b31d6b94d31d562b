package explain

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sql string
		want      []string
		lines     []int
	}{
		{"none", " ; ;-- x\n;/* y */", nil, nil},
		{"two", "SELECT 1;\n\n SELECT 2", []string{"SELECT 1", "SELECT 2"}, []int{1, 3}},
		{"comments", "-- a; b\nSELECT 1 -- c;\n; /* d; /* e; */ ; */ SELECT 2;", []string{"SELECT 1 -- c;", "SELECT 2"}, []int{2, 3}},
		{"quotes", `SELECT 'a;''b;', "c;""d;"; SELECT 2`, []string{`SELECT 'a;''b;', "c;""d;"`, "SELECT 2"}, []int{1, 1}},
		{"escapes", `SELECT E'a\';b', e'\\', 'c\'; SELECT 2`, []string{`SELECT E'a\';b', e'\\', 'c\'`, "SELECT 2"}, []int{1, 1}},
		{"doubled in escapes", `SELECT E'a''\';b'; SELECT 2`, []string{`SELECT E'a''\';b'`, "SELECT 2"}, []int{1, 1}},
		{"name before quote", `SELECT some'\'; SELECT 2`, []string{`SELECT some'\'`, "SELECT 2"}, []int{1, 1}},
		{"dollars", "DO $$ BEGIN; END $$; DO $a$ ; $$ ; $a$; SELECT $1; SELECT a$b$c; SELECT $ ;", []string{"DO $$ BEGIN; END $$", "DO $a$ ; $$ ; $a$", "SELECT $1", "SELECT a$b$c", "SELECT $"}, nil},
		{"parentheses", "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b); SELECT 2", []string{"CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b)", "SELECT 2"}, nil},
		{"atomic", "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3", []string{"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END", "SELECT 3"}, nil},
		{"names", `SELECT "BEGIN"; SELECT żółw`, []string{`SELECT "BEGIN"`, "SELECT żółw"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			list, err := Split(test.sql)
			require.NoError(t, err)
			var got []string
			for i, s := range list {
				got = append(got, s.SQL)
				if test.lines != nil {
					require.Equal(t, test.lines[i], s.Line)
				}
			}
			require.Equal(t, test.want, got)
		})
	}
	for _, sql := range []string{"SELECT 1;\nSELECT 'a", "SELECT 1;\n/* a /* */", "SELECT 1;\nSELECT $x$ a $$", "SELECT 1;\nSELECT \"a"} {
		_, err := Split(sql)
		require.ErrorContains(t, err, "line 2")
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	refused := []string{
		"COMMIT", "commit work", "/* x */ END", "Abort", "BEGIN", "START TRANSACTION", "ROLLBACK", "ROLLBACK WORK", "ROLLBACK AND CHAIN",
		"PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'",
		"COPY t FROM STDIN", "COPY t (a, b, c) TO stdout", `\d`,
	}
	allowed := []string{
		"SELECT 1", "PREPARE p AS SELECT 1", "SAVEPOINT a", "RELEASE a", "ROLLBACK TO a", "ROLLBACK WORK TO SAVEPOINT a",
		"COPY t FROM '/tmp/x'", "SELECT 'COMMIT'", "WITH x AS (SELECT 1) SELECT * FROM x", `DELETE FROM "COMMIT"`,
	}
	for _, sql := range refused {
		list, err := Split(sql)
		require.NoError(t, err)
		require.NotEmpty(t, list[0].Refused(), sql)
	}
	for _, sql := range allowed {
		list, err := Split(sql)
		require.NoError(t, err)
		require.Empty(t, list[0].Refused(), sql)
	}
}

// FuzzSplit: nothing but blanks, comments and semicolons is lost, and nothing is added.
func FuzzSplit(f *testing.F) {
	f.Add("SELECT 1; SELECT E'\\'' /* ; */; DO $$;$$")
	f.Fuzz(func(t *testing.T, sql string) {
		list, err := Split(sql)
		if err != nil {
			return
		}
		rest := sql
		for _, s := range list {
			_, after, found := strings.Cut(rest, s.SQL)
			require.True(t, found)
			rest = after
			require.NotEmpty(t, s.SQL)
			require.Positive(t, s.Line)
		}
	})
}
