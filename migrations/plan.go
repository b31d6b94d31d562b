package migrations

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/mapping"
)

// State says how an object in the database differs from what the rules ask for.
type State string

// The states. Everything but StateOK is drift.
const (
	StateOK       State = "ok"
	StateMissing  State = "missing"  // not there
	StateDisabled State = "disabled" // a trigger that does not fire
	StateEdited   State = "edited"   // changed by hand
	StateStale    State = "stale"    // made for other rules, or for the table as it was
	StateUnmapped State = "unmapped" // of a table that has no rule any more
	StateBroken   State = "broken"   // the rule does not fit the table any more; see Problem
)

// Change is a step of a plan.
type Change struct {
	State  State  // what is wrong now
	Object string // what it is about, such as "trigger icache_update on public.movies"
	Table  string // the table of the rule, as the rules name it; empty for what serves all tables
	SQL    string // one or more statements, each ended by a semicolon

	locks     mapping.TableName // table of the application that the statements lock
	superuser bool              // whether it takes the rights of one
	optional  string            // what to say if it cannot be done; empty if it must be
}

// Plan is what would be done, in order.
type Plan struct {
	Changes []Change
	// Notes are for people: what could be better, such as a missing role.
	Notes []string
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 }

// SQL returns the statements with a comment before each change. Executed in
// one transaction, they do what Up would.
func (p *Plan) SQL() string {
	var b strings.Builder
	for i, c := range p.Changes {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "-- %s: %s\n%s\n", c.State, oneLine(c.Object), c.SQL)
	}
	return b.String()
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

// differ compares and collects changes.
type differ struct {
	m       *Migrator
	want    desired
	in      *installed
	session session
	writer  writer
	broken  []*mapping.CompiledRule // rules that cannot be compared
	changes []Change
}

// inspection is everything that a plan and a status are made of.
type inspection struct {
	plan     Plan
	want     desired
	in       *installed
	writer   writer
	problems []Problem
}

// purpose is what an inspection is for.
type purpose int

const (
	toApply   purpose = iota // by the connected role, which needs the rights
	toExport                 // on other clusters: does not rely on roles and rights of this one
	toCompare                // may be done by a role that may change nothing, such as the agent's
)

// inspect compares the database with the rules.
func (m *Migrator) inspect(ctx context.Context, tx pgx.Tx, p purpose) (*inspection, error) {
	s, err := readSession(ctx, tx)
	if err != nil {
		return nil, err
	}
	in, err := readInstalled(ctx, tx, m.names)
	if err != nil {
		return nil, err
	}
	if v, err := strconv.Atoi(in.version); in.version != "" && (err != nil || v > Version) {
		return nil, &VersionError{Schema: m.names.Schema(), Installed: in.version}
	}
	fit, problems, err := m.check(ctx, tx, s, in, p)
	if err != nil {
		return nil, err
	}
	w, err := m.planWriter(ctx, tx, s, in)
	if err != nil {
		return nil, err
	}
	if record, ok := in.functions[recordFunction]; ok && p == toCompare && record.owner == m.cfg.WriterRole {
		w.notes = nil // about what the connected role could not do
	}
	if p == toExport && !in.schema {
		s.superuser = false
		w.exists, w.member = false, false
	}
	d := &differ{m: m, want: m.want(fit), in: in, session: s, writer: w}
	for _, r := range m.rules {
		if !slices.ContainsFunc(fit, func(f mapped) bool { return f.rule == r }) {
			d.broken = append(d.broken, r)
		}
	}
	agentGranted := true
	if m.cfg.AgentRole != "" {
		if agentGranted, err = m.agentGranted(ctx, tx, in); err != nil {
			return nil, err
		}
	}
	d.base()
	d.functions()
	if !agentGranted {
		d.add(StateMissing, "rights of role "+m.cfg.AgentRole, "", strings.Join(agentGrants(m.names, m.cfg.AgentRole), "\n"))
	}
	d.triggers()
	d.rows()
	d.leftovers()
	d.version()
	d.eventTriggers()
	if !s.superuser && p != toCompare {
		w.notes = append(w.notes, needsSuperuser(d.changes)...)
	}
	return &inspection{Plan{d.changes, w.notes}, d.want, in, w, problems}, nil
}

func (d *differ) add(state State, object, table, sql string) {
	d.changes = append(d.changes, Change{State: state, Object: object, Table: table, SQL: sql})
}

func (d *differ) base() {
	w := d.writer
	if w.name != "" && !w.exists {
		d.add(StateMissing, "role "+w.name, "", createRole(w.name))
	}
	if w.name != "" && !w.member {
		d.add(StateMissing, "membership in role "+w.name, "", fmt.Sprintf("GRANT %s TO CURRENT_USER;", ident(w.name)))
	}
	granted := w.granted
	for _, o := range d.want.base {
		if !d.in.has(o) {
			d.add(StateMissing, o.class+" "+o.name, "", o.sql)
			granted = false
		}
	}
	if w.name != "" && !granted {
		d.add(StateMissing, "rights of role "+w.name, "", strings.Join(d.m.writerGrants(w.name), "\n"))
	}
}

func (d *differ) functions() {
	n := d.m.names
	start, owners := len(d.changes), false
	for _, f := range d.want.functions {
		have, ok := d.in.functions[f.name]
		state, sql := d.function(f, have, ok)
		if w := d.writer.name; w != "" && (!ok || have.owner != w) {
			owners = true
			sql = append(sql, fmt.Sprintf("ALTER FUNCTION %s OWNER TO %s;", f.signature(n), ident(w)))
			if state == StateOK {
				state = StateStale
			}
		}
		if state != StateOK {
			d.add(state, "function "+n.Schema()+"."+f.name, f.table, strings.Join(sql, "\n"))
		}
	}
	if owners && !d.session.superuser {
		// A new owner must be allowed to create in the schema, for a moment.
		schema, w := ident(n.Schema()), ident(d.writer.name)
		d.changes = slices.Insert(d.changes, start, Change{State: StateMissing, Object: "right of role " + d.writer.name + " to own functions",
			SQL: fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s;", schema, w)})
		d.add(StateMissing, "end of that right", "", fmt.Sprintf("REVOKE CREATE ON SCHEMA %s FROM %s;", schema, w))
	}
}

// function returns what is to be done to a function, and why.
func (d *differ) function(f *function, have installedFunction, exists bool) (State, []string) {
	n := d.m.names
	revoke := fmt.Sprintf("REVOKE ALL ON FUNCTION %s FROM PUBLIC;", f.signature(n))
	if !exists {
		return StateMissing, []string{f.create(n), revoke}
	}
	var sql []string
	state := StateOK
	if have.body != f.body() || !slices.Equal(sorted(have.settings), f.settings) || !have.definer {
		state = StateStale
		if _, intact := isGenerated(have.body, sorted(have.settings)); !intact || !have.definer {
			state = StateEdited
		}
		sql = append(sql, f.create(n))
	}
	if have.public {
		state = StateEdited
		sql = append(sql, revoke)
	}
	return state, sql
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func (d *differ) triggers() {
	n := d.m.names
	for _, t := range d.want.triggers {
		object := "trigger " + t.name + " on " + t.relation.name.String()
		i := slices.IndexFunc(d.in.triggers, func(have installedTrigger) bool {
			return have.oid == t.oid && have.name == t.name && !have.isClone
		})
		state, sql := StateMissing, t.create(n)
		if t.always {
			sql += "\n" + t.enable()
		}
		if i >= 0 {
			have := d.in.triggers[i]
			before, after := t.transition()
			switch {
			case have.bits != t.typeBits() || have.before != before || have.after != after || have.function != t.function || !have.isPlain:
				state = StateStale
			case have.enabled == t.enabled() && !d.cloneDisabled(t):
				continue
			case have.enabled == 'D' || d.cloneDisabled(t):
				state, sql = StateDisabled, t.enable()
			default:
				state, sql = StateStale, t.enable()
			}
		}
		d.changes = append(d.changes, Change{State: state, Object: object, Table: t.table, SQL: sql, locks: t.relation.name})
	}
}

// cloneDisabled reports whether the trigger was disabled for a partition only.
func (d *differ) cloneDisabled(t *trigger) bool {
	return t.row && slices.ContainsFunc(d.in.triggers, func(have installedTrigger) bool {
		return have.isClone && have.name == t.name && have.function == t.function && have.enabled != t.enabled()
	})
}

func (d *differ) rows() {
	for _, r := range d.want.rows {
		i := slices.IndexFunc(d.in.rows, func(have tableRow) bool { return have.oid == r.oid })
		state := StateMissing
		if i >= 0 {
			if d.in.rows[i].table == r.table && d.in.rows[i].definition == r.definition {
				continue
			}
			state = StateStale
		}
		d.add(state, "entry for table "+r.name.String(), r.table, r.upsert(d.m.names))
	}
}

// leftovers removes what belongs to tables that have no rule any more. What
// belongs to rules that are broken is left alone.
func (d *differ) leftovers() {
	n := d.m.names
	d.leftEventTriggers() // before their functions
	brokenTables, brokenFunctions := make(map[string]bool), make(map[string]bool)
	for _, r := range d.broken {
		brokenTables[r.Rule.Table.String()] = true
		for _, operation := range []string{mapping.Insert.String(), mapping.Update.String(), mapping.Delete.String(), rowOperation} {
			brokenFunctions[functionName(r.Rule.Table, operation)] = true
		}
	}
	if len(d.broken) > 0 {
		brokenFunctions[truncateFunction] = true // serves all tables
	}
	for _, t := range d.in.triggers {
		wanted := slices.ContainsFunc(d.want.triggers, func(w *trigger) bool { return w.oid == t.oid && w.name == t.name })
		if wanted || t.isClone || brokenFunctions[t.function] {
			continue
		}
		d.changes = append(d.changes, Change{State: StateUnmapped, Object: "trigger " + t.name + " on " + t.relation.name.String(),
			Table: d.tableOf(t.oid), SQL: fmt.Sprintf("DROP TRIGGER %s ON %s;", ident(t.name), t.relation.name.SQL()), locks: t.relation.name})
	}
	for _, f := range sortedFunctions(d.in) {
		wanted := slices.ContainsFunc(d.want.functions, func(w *function) bool { return w.name == f.name })
		if !wanted && !brokenFunctions[f.name] && f.isOurs() {
			d.add(StateUnmapped, "function "+n.Schema()+"."+f.name, "", fmt.Sprintf("DROP FUNCTION %s(%s);", n.Ident(f.name), f.args))
		}
	}
	for _, r := range d.in.rows {
		wanted := slices.ContainsFunc(d.want.rows, func(w tableRow) bool { return w.oid == r.oid })
		if !wanted && !brokenTables[r.table] {
			d.add(StateUnmapped, "entry for table "+r.table, r.table, fmt.Sprintf("DELETE FROM %s WHERE relation = %d::oid;", n.Tables(), r.oid))
		}
	}
}

// tableOf returns the name under which a relation is mapped now.
func (d *differ) tableOf(oid uint32) string {
	for _, r := range d.in.rows {
		if r.oid == oid {
			return r.table
		}
	}
	return ""
}

func sortedFunctions(in *installed) []installedFunction {
	list := make([]installedFunction, 0, len(in.functions))
	for _, f := range in.functions {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b installedFunction) int { return strings.Compare(a.name, b.name) })
	return list
}

func (d *differ) version() {
	want := strconv.Itoa(Version)
	if d.in.version == want {
		return
	}
	state := StateMissing
	if d.in.version != "" {
		state = StateStale
	}
	d.add(state, "version of the objects", "", fmt.Sprintf(
		"INSERT INTO %s (key, value) VALUES ('version', %s) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;", d.m.names.Meta(), literal(want)))
}
