package migrations

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
)

// desired is what the rules ask for, in the order of creation.
type desired struct {
	base      []object
	functions []*function
	triggers  []*trigger
	rows      []tableRow

	eventTriggers []*eventTrigger
}

// trigger is a trigger as it should be.
type trigger struct {
	relation
	table    string // canonical name of the rule's table
	name     string
	function string
	ops      []mapping.Op
	row      bool
	always   bool
}

// Bits of pg_trigger.tgtype.
const (
	typeRow      = 1
	typeInsert   = 4
	typeDelete   = 8
	typeUpdate   = 16
	typeTruncate = 32
)

func (t *trigger) typeBits() int16 {
	var bits int16
	if t.row {
		bits = typeRow
	}
	for _, op := range t.ops {
		switch op {
		case mapping.Insert:
			bits |= typeInsert
		case mapping.Update:
			bits |= typeUpdate
		case mapping.Delete:
			bits |= typeDelete
		case mapping.Truncate:
			bits |= typeTruncate
		}
	}
	return bits
}

// enabled returns what pg_trigger.tgenabled should be.
func (t *trigger) enabled() byte {
	if t.always {
		return 'A'
	}
	return 'O'
}

// transition returns the names of the transition tables, empty for none.
func (t *trigger) transition() (before, after string) {
	if t.row {
		return "", ""
	}
	switch t.ops[0] {
	case mapping.Insert:
		return "", newRows
	case mapping.Update:
		return oldRows, newRows
	case mapping.Delete:
		return oldRows, ""
	}
	return "", ""
}

// create returns the statement that makes or replaces the trigger. It takes a
// lock that lets readers pass and holds up writers.
func (t *trigger) create(n outbox.Names) string {
	events := make([]string, len(t.ops))
	for i, op := range t.ops {
		events[i] = strings.ToUpper(op.String())
	}
	level := "STATEMENT"
	if t.row {
		level = "ROW"
	}
	var referencing string
	before, after := t.transition()
	if before != "" {
		referencing += " OLD TABLE AS " + before
	}
	if after != "" {
		referencing += " NEW TABLE AS " + after
	}
	if referencing != "" {
		referencing = "\n  REFERENCING" + referencing
	}
	return fmt.Sprintf("CREATE OR REPLACE TRIGGER %s AFTER %s ON %s%s\n  FOR EACH %s EXECUTE FUNCTION %s();",
		ident(t.name), strings.Join(events, " OR "), t.relation.name.SQL(), referencing, level, n.Ident(t.function))
}

func (t *trigger) enable() string {
	always := ""
	if t.always {
		always = "ALWAYS "
	}
	return fmt.Sprintf("ALTER TABLE %s ENABLE %sTRIGGER %s;", t.relation.name.SQL(), always, ident(t.name))
}

// tableRow is a row of the table of mapped relations.
type tableRow struct {
	relation
	table      string
	definition string
}

func (r *tableRow) upsert(n outbox.Names) string {
	return fmt.Sprintf(`INSERT INTO %s (relation, name, definition) VALUES (%s::regclass, %s,
  %s)
  ON CONFLICT (relation) DO UPDATE SET name = EXCLUDED.name, definition = EXCLUDED.definition;`,
		n.Tables(), literal(r.name.SQL()), literal(r.table), literal(r.definition))
}

// definition is what was installed for a table, for people and for agents that
// want to know whether a migration is due.
type definition struct {
	Level      string   `json:"level"` // statement or row
	On         []string `json:"on"`
	Keys       []string `json:"keys"` // names of the sources
	Columns    []string `json:"columns,omitempty"`
	When       string   `json:"when,omitempty"`
	MaxKeys    int      `json:"max_keys"`
	PrimaryKey []string `json:"primary_key,omitempty"`
	Always     bool     `json:"always,omitempty"`
}

// want returns what should be installed for rules that fit the database.
func (m *Migrator) want(rules []mapped) desired {
	d := desired{base: baseObjects(m.names), functions: commonFunctions(m.names, m.cfg.SizeLimit)}
	for _, r := range rules {
		m.wantTable(&d, r)
	}
	if m.cfg.EventTrigger {
		d.functions = append(d.functions, eventFunctions(m.names)...)
		d.eventTriggers = eventTriggers(m.names)
	}
	return d
}

func (m *Migrator) wantTable(d *desired, r mapped) {
	p := newProjection(r.table, r.rule, m.names)
	table := r.table.name.String()
	add := func(rel relation, operation, function string, row bool, ops ...mapping.Op) {
		d.triggers = append(d.triggers, &trigger{
			relation: rel, table: table, name: triggerName(m.names.Schema(), operation), function: function,
			ops: ops, row: row, always: r.rule.Rule.Always,
		})
	}

	// A statement that names a parent fires the triggers of the parent alone,
	// and shows them the rows of the children. One that names a child fires
	// the child's. Row-level triggers fire where the row is, either way.
	family := append([]relation{r.table.relation}, r.table.children...)
	level := "statement"
	if r.table.kind == kindPartitioned || r.rule.Rule.Always {
		level = "row"
		if ops := p.rowOps(); len(ops) > 0 {
			f := p.row()
			d.functions = append(d.functions, f)
			for _, rel := range family {
				add(rel, rowOperation, f.name, true, ops...)
			}
		}
	} else {
		for _, op := range []mapping.Op{mapping.Insert, mapping.Update, mapping.Delete} {
			if !r.rule.Covers(op) {
				continue
			}
			f := p.statement(op)
			d.functions = append(d.functions, f)
			for _, rel := range family {
				add(rel, op.String(), f.name, false, op)
			}
		}
	}
	if r.rule.Covers(mapping.Truncate) {
		// Postgres does not clone these to partitions.
		for _, rel := range append(family, r.table.partitions...) {
			add(rel, mapping.Truncate.String(), truncateFunction, false, mapping.Truncate)
		}
	}
	for _, rel := range family {
		d.rows = append(d.rows, tableRow{rel, table, describe(p, level)})
	}
}

func describe(p *projection, level string) string {
	def := definition{
		Level:      level,
		Keys:       []string{},
		Columns:    p.rule.Rule.Columns,
		When:       p.rule.Rule.When,
		MaxKeys:    p.rule.Rule.MaxKeys,
		PrimaryKey: p.table.primaryKey,
		Always:     p.rule.Rule.Always,
	}
	for _, op := range p.rule.Rule.On {
		def.On = append(def.On, op.String())
	}
	for _, s := range p.sources {
		def.Keys = append(def.Keys, s.Name())
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // conditions are full of < and >
	if err := encoder.Encode(def); err != nil {
		panic("migrations: a definition of strings and numbers cannot be encoded: " + err.Error())
	}
	return strings.TrimSpace(text.String())
}
