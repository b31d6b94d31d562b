package listener

import (
	"context"
	"fmt"
	"strings"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// The files of the outbox tables tell whether somebody else emptied one of them:
// TRUNCATE gives a table a new file. So does VACUUM FULL, which loses nothing
// and cannot be told apart. Only the leader is supposed to do either. The files
// are kept with the cursor, so that it is noticed as well if no listener runs.

const emptied = "an outbox table was truncated or rewritten by somebody else"

// filesSeparator stands between the timeline and the files in the saved cursor.
const filesSeparator = " "

// filesSQL is an expression for the files of both tables, as "16390,16394".
func filesSQL(n outbox.Names) string {
	return fmt.Sprintf("concat_ws(',', pg_relation_filenode(%s), pg_relation_filenode(%s))", literal(n.Outbox(0)), literal(n.Outbox(1)))
}

// cursorFileSQL is an expression for the file of the cursor table. The leader
// only updates its row, so another file means that somebody restored a dump, or
// emptied the table.
func cursorFileSQL(n outbox.Names) string {
	return fmt.Sprintf("pg_relation_filenode(%s)", literal(n.Cursor()))
}

const replaced = "the cursor table was replaced or emptied, as by restoring a dump"

// filesAfter is an expression for the files after one table was truncated: the
// other's is the one that is known, whatever it is by now.
func filesAfter(n outbox.Names, table int, known string) string {
	first, second, _ := strings.Cut(known, ",")
	now := fmt.Sprintf("pg_relation_filenode(%s)", literal(n.Outbox(table)))
	if table == 0 {
		return now + " || " + literal(","+second)
	}
	return literal(first+",") + " || " + now
}

// truncated takes in the new file of a table that this leader has truncated.
func (ld *leader) truncated(table int) error {
	ctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	if err := ld.conn.QueryRow(ctx, "SELECT "+filesAfter(ld.l.names, table, ld.epoch.files)).Scan(&ld.epoch.files); err != nil {
		return fmt.Errorf("read the files of the outbox: %w", err)
	}
	return nil
}
