package migrations

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Status compares what is installed with what the rules ask for.
type Status struct {
	Schema    string
	Installed bool // whether the schema has an outbox
	Version   string
	// Writer owns the trigger functions; empty if that is who created them.
	Writer string
	// Objects are the differences of what serves all tables.
	Objects []Difference
	// Tables holds every table that has a rule or triggers, by name.
	Tables []TableStatus
	Notes  []string
}

// TableStatus is how the triggers of a table are.
type TableStatus struct {
	Table       string // as the rules name it
	State       State  // the worst of the differences
	Differences []Difference
	Problems    []Problem // for StateBroken: why the rule does not fit
}

// Difference is one object that is not as it should be.
type Difference struct {
	Object string
	State  State
}

// Drift reports whether anything is not as it should be.
func (s *Status) Drift() bool {
	return len(s.Objects) > 0 || slices.ContainsFunc(s.Tables, func(t TableStatus) bool { return t.State != StateOK })
}

// severity orders states from the least to the most harmful.
var severity = []State{StateOK, StateUnmapped, StateStale, StateEdited, StateDisabled, StateMissing, StateBroken}

// Status reads the state of the database. It changes nothing and takes no lock
// on any table of the application. Drift is not an error.
func (m *Migrator) Status(ctx context.Context) (*Status, error) {
	var i *inspection
	err := m.readOnly(ctx, func(tx pgx.Tx) (err error) {
		i, err = m.inspect(ctx, tx, toCompare)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("migrate status: %w", err)
	}
	s := &Status{
		Schema: m.names.Schema(), Installed: i.in.hasOutbox(), Version: i.in.version, Writer: i.writer.name, Notes: i.plan.Notes,
	}
	tables := make(map[string]*TableStatus)
	entry := func(name string) *TableStatus {
		if tables[name] == nil {
			tables[name] = &TableStatus{Table: name, State: StateOK}
		}
		return tables[name]
	}
	for _, r := range m.rules {
		entry(r.Rule.Table.String())
	}
	for _, c := range i.plan.Changes {
		difference := Difference{Object: c.Object, State: c.State}
		if c.Table == "" {
			s.Objects = append(s.Objects, difference)
			continue
		}
		entry(c.Table).add(difference)
	}
	for _, p := range i.problems {
		t := entry(p.Table)
		t.State = StateBroken
		t.Problems = append(t.Problems, p)
	}
	for _, t := range tables {
		s.Tables = append(s.Tables, *t)
	}
	slices.SortFunc(s.Tables, func(a, b TableStatus) int { return strings.Compare(a.Table, b.Table) })
	return s, nil
}

func (t *TableStatus) add(d Difference) {
	t.Differences = append(t.Differences, d)
	if slices.Index(severity, d.State) > slices.Index(severity, t.State) {
		t.State = d.State
	}
}
