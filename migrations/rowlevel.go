package migrations

import (
	"fmt"

	"github.com/icache-go/icache-agent/mapping"
)

// rowOperation names the function and the trigger of a row-level capture.
const rowOperation = "row"

// row returns the function of a row-level trigger, which serves insert, update
// and delete. Statement-level triggers cannot do two things: see what is
// written to a partition directly, and fire for logical replication.
func (p *projection) row() *function {
	const old, new = "OLD", "NEW"
	both := fmt.Sprintf(`CASE WHEN NOT icache_new THEN jsonb_build_array(%s)
      WHEN NOT icache_old OR %s THEN jsonb_build_array(%s)
      ELSE jsonb_build_array(%[1]s, %[3]s) END`, p.object(old), p.sameKeys(old, new), p.object(new))
	if len(p.sources) == 0 {
		both = "'[{}]'"
	}
	return p.function(rowOperation, fmt.Sprintf(`#variable_conflict use_column
DECLARE
  icache_old boolean := TG_OP <> 'INSERT';
  icache_new boolean := TG_OP <> 'DELETE';
  icache_keys jsonb;
BEGIN
  BEGIN
%s    IF TG_OP = 'UPDATE' AND icache_old = icache_new AND NOT %s THEN
      RETURN NULL;
    END IF;
    icache_keys := %s;
  EXCEPTION WHEN OTHERS THEN -- the table is not what it was: never fail the statement for that
    icache_keys := NULL;
  END;
%s  RETURN NULL;
END
`, p.rowConditions(), p.rowChanged(), both, p.tail(p.rowOp())))
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
	var cases string
	for _, op := range p.rowOps() {
		if !p.rule.Covers(op) {
			cases += fmt.Sprintf("WHEN '%c' THEN 'U' ", byte(op))
		}
	}
	if cases == "" {
		return `left(TG_OP, 1)::"char"`
	}
	return `(CASE left(TG_OP, 1) ` + cases + `ELSE left(TG_OP, 1) END)::"char"`
}
