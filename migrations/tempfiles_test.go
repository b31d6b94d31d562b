package migrations_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// TestTempFileLimit: transition tables go to temporary files, which the server
// may limit. That is the one limit that triggers bring to a bulk statement;
// row-level ones do not have it. See docs/operations.md.
func TestTempFileLimit(t *testing.T) {
	t.Parallel()
	statement, rows := rule("films", "film:{id}"), rule("copies", "copy:{id}")
	rows.Always = true
	b := setup(t, `CREATE TABLE films (id int PRIMARY KEY, note text); CREATE TABLE copies (LIKE films INCLUDING ALL);
		INSERT INTO films SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g; INSERT INTO copies SELECT * FROM films`, statement, rows)
	b.exec(`SET temp_file_limit = '4MB'; SET work_mem = '64kB'`)

	_, err := b.conn.Exec(b.ctx, `UPDATE films SET note = note || 'y'`)
	var failed *pgconn.PgError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "53400", failed.Code, "configuration_limit_exceeded: if this has gone, so should the warning of doctor")
	require.Empty(t, b.took(`SELECT`), "nothing was changed, nothing recorded")
	require.Len(t, b.took(`UPDATE films SET note = note || 'y' WHERE id <= 10`), 1)

	require.NotEmpty(t, b.took(`UPDATE copies SET note = note || 'y'`), "row-level triggers need no files")
}
