package migrations

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/icache-go/icache-agent/mapping"
)

// rowOperation names the function and the trigger of a row-level capture.
const rowOperation = "row"

// row returns the function of a row-level trigger, which serves insert, update
// and delete. Statement-level triggers cannot do two things: see what is
// written to a partition directly, and fire for logical replication.
//
// It cannot see how large a statement is, so it counts: after max_keys rows in
// a transaction it writes that everything of the table changed, and then
// nothing more. What it counted is kept in settings that are local to the
// transaction: rolled back to a savepoint, they are what they were, as is the
// outbox. The transaction's id makes sure that what somebody might have set for
// the session is not mistaken for it.
func (p *projection) row() *function {
	const old, new = "OLD", "NEW"
	all, rows := p.rowSetting("all"), p.rowSetting("rows")
	recorded := fmt.Sprintf("PERFORM set_config(%s, pg_current_xact_id()::text, true);\n%s", all, p.rowRelation())
	keys := fmt.Sprintf(`    icache_rows := coalesce(nullif(current_setting(%s, true), '')::integer, 0) + 1;
    IF icache_rows <= %d THEN
      icache_keys := CASE WHEN NOT icache_new THEN jsonb_build_array(%s)
        WHEN NOT icache_old OR %s THEN jsonb_build_array(%s)
        ELSE jsonb_build_array(%[3]s, %[5]s) END;
    END IF;
`, rows, p.rule.Rule.MaxKeys, p.object(old), p.sameKeys(old, new), p.object(new))
	count := fmt.Sprintf(`  IF icache_keys IS NULL THEN
    %s  ELSE
    icache_rows := set_config(%s, icache_rows::text, true);
  END IF;
`, recorded, rows)
	if len(p.sources) == 0 { // one row says it all
		keys, count = "    icache_keys := '[{}]';\n", "  "+recorded
	}
	return p.function(rowOperation, fmt.Sprintf(`#variable_conflict use_column
DECLARE
  icache_old boolean := TG_OP <> 'INSERT';
  icache_new boolean := TG_OP <> 'DELETE';
  icache_relation oid := TG_RELID;
  icache_keys jsonb;
  icache_rows integer;
  icache_to bigint;
BEGIN
  IF current_setting(%s, true) = pg_current_xact_id()::text THEN
    RETURN NULL; -- this transaction has recorded that everything changed
  END IF;
  BEGIN
%s    IF TG_OP = 'UPDATE' AND icache_old = icache_new AND NOT %s THEN
      RETURN NULL;
    END IF;
%s  EXCEPTION WHEN OTHERS THEN -- the table is not what it was: never fail the statement for that
    icache_keys := NULL;
  END;
%s  icache_to := CASE %s;
%sEND
`, all, p.rowConditions(), p.rowChanged(), keys, count, destination(p.names),
		tail(p.names, "icache_relation", p.rowOp(), "icache_keys", "")))
}

// rowSetting names a setting that belongs to the table. Names of settings are
// plain identifiers, so the table is there as a hash.
func (p *projection) rowSetting(purpose string) string {
	const digits = 16 // two tables with one name would hide changes of each other
	sum := sha256.Sum256([]byte(p.names.Schema() + "\x00" + p.table.name.String()))
	return literal("icache." + purpose + "_" + hex.EncodeToString(sum[:])[:digits])
}

// rowRelation has a row that stands for the whole table name the table that the
// rule is for: the partition might be detached before the agent reads the row,
// and would then stand for nothing.
func (p *projection) rowRelation() string {
	if p.table.kind != kindPartitioned {
		return ""
	}
	return `    WITH RECURSIVE up AS (
      SELECT tgrelid, tgparentid FROM pg_trigger WHERE tgrelid = TG_RELID AND tgname = TG_NAME
      UNION ALL SELECT t.tgrelid, t.tgparentid FROM pg_trigger AS t JOIN up ON t.oid = up.tgparentid)
    SELECT coalesce((SELECT tgrelid FROM up WHERE tgparentid = 0), TG_RELID) INTO icache_relation;
`
}

func (p *projection) rowChanged() string {
	if len(p.rule.Rule.Columns) == 0 {
		return "(OLD *<> NEW)"
	}
	return p.changed("OLD", "NEW", false)
}

// rowConditions finds out which forms of the row count.
func (p *projection) rowConditions() string {
	if p.rule.Rule.When == "" {
		return ""
	}
	one := func(variable, row string) string {
		return fmt.Sprintf("    IF %s THEN\n      %[1]s := (SELECT (\n%s\n) IS TRUE FROM (SELECT %s.*) AS %s);\n    END IF;\n",
			variable, p.rule.Rule.When, row, ident(p.table.name.Name))
	}
	return one("icache_old", "OLD") + one("icache_new", "NEW") + `    IF NOT (icache_old OR icache_new) THEN
      RETURN NULL;
    END IF;
`
}

// rowOps returns the operations that the row trigger fires for. An update that
// moves a row to another partition is a delete and an insert to row triggers.
func (p *projection) rowOps() []mapping.Op {
	var list []mapping.Op
	for _, op := range []mapping.Op{mapping.Insert, mapping.Update, mapping.Delete} {
		if p.rule.Covers(op) || p.table.kind == kindPartitioned && p.rule.Covers(mapping.Update) {
			list = append(list, op)
		}
	}
	return list
}

// rowOp returns the operation to record: one that the rule covers.
func (p *projection) rowOp() string {
	var cases strings.Builder
	for _, op := range p.rowOps() {
		if !p.rule.Covers(op) {
			fmt.Fprintf(&cases, "WHEN '%c' THEN 'U' ", byte(op))
		}
	}
	if cases.Len() == 0 {
		return `left(TG_OP, 1)::"char"`
	}
	return `(CASE left(TG_OP, 1) ` + cases.String() + `ELSE left(TG_OP, 1) END)::"char"`
}
