package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/suggest"
	"github.com/icache-go/icache-agent/mapping"
)

// try is a made-up change: what 'check --table' maps to tokens without a database.
type try struct{ table, op, old, new string }

type tryOut struct {
	Table  string          `json:"table"`
	Op     string          `json:"op"`
	Keys   json.RawMessage `json:"keys"` // null: unknown
	Tokens []string        `json:"tokens"`
	Notes  []string        `json:"notes,omitempty"`
}

func (t try) given() bool { return t != try{} }

// run maps the change to tokens.
func (t try) run(cfg *config.Config) (*tryOut, error) {
	if t.table == "" {
		return nil, usageErrorf("--op, --old and --new need --table")
	}
	name, m, err := mapperFor(cfg, t.table)
	if err != nil {
		return nil, err
	}
	rule, err := ruleFor(m, name)
	if err != nil {
		return nil, err
	}
	op, err := t.operation()
	if err != nil {
		return nil, err
	}
	out := &tryOut{Table: name, Op: op.String(), Tokens: []string{}}
	if !rule.Covers(op) {
		out.Keys = json.RawMessage("[]")
		out.Notes = append(out.Notes, fmt.Sprintf("the rule leaves %s out: nothing is recorded", op))
		return out, nil
	}
	if op != mapping.Truncate {
		if recorded, err := t.record(out, rule); err != nil || !recorded {
			return out, err
		}
	}
	change := mapping.Change{Table: name, Op: op, Keys: out.Keys}
	tokens, err := m.AppendTokens(nil, change)
	if err != nil {
		return nil, err
	}
	out.Tokens = append(out.Tokens, unique(tokens)...)
	return out, nil
}

// record does what the trigger does: it takes the keys from the rows, and
// records nothing if no column that counts has changed.
func (t try) record(out *tryOut, rule *mapping.CompiledRule) (bool, error) {
	var rows [][]byte
	var columns []map[string]any
	for _, r := range []struct{ flag, text string }{{"--old", t.old}, {"--new", t.new}} {
		if r.text == "" {
			continue
		}
		var row map[string]any
		if err := json.Unmarshal([]byte(r.text), &row); err != nil || row == nil {
			return false, usageErrorf(`%s is not a JSON object of columns (write '{"id": 42, "title": "A"}')`, r.flag)
		}
		rows, columns = append(rows, []byte(r.text)), append(columns, row)
	}
	for _, s := range rule.Sources() {
		for _, row := range columns {
			if _, ok := row[s.Column()]; !ok {
				out.Notes = append(out.Notes, fmt.Sprintf("column %q is not given: its value counts as unknown", s.Column()))
				break
			}
		}
	}
	if rule.Rule.When != "" {
		out.Notes = append(out.Notes, "the condition 'when' takes a database to evaluate: it is taken to hold")
	}
	if len(rule.Lookups()) > 0 {
		out.Notes = append(out.Notes, "a foreign key takes a database to follow: the group token stands for its token")
	}
	if len(columns) == 2 && !counts(rule, columns[0], columns[1]) {
		out.Keys = json.RawMessage("[]")
		out.Notes = append(out.Notes, "no column that counts has changed: nothing is recorded")
		return false, nil
	}
	keys, err := rule.Keys(rows...)
	if err != nil {
		return false, usageErrorf("%w", err)
	}
	out.Keys = keys
	return true, nil
}

// counts reports whether an update changes a column that counts.
func counts(rule *mapping.CompiledRule, before, after map[string]any) bool {
	if len(rule.Rule.Columns) == 0 {
		return !reflect.DeepEqual(before, after)
	}
	columns := slices.Clone(rule.Rule.Columns)
	for _, s := range rule.Sources() {
		columns = append(columns, s.Column())
	}
	return slices.ContainsFunc(columns, func(c string) bool { return !reflect.DeepEqual(before[c], after[c]) })
}

// operation is the one that was named, or the one that has such rows.
func (t try) operation() (mapping.Op, error) {
	rows := map[[2]bool]mapping.Op{
		{false, true}: mapping.Insert, {true, true}: mapping.Update, {true, false}: mapping.Delete, {false, false}: mapping.Truncate,
	}
	fits := rows[[2]bool{t.old != "", t.new != ""}]
	if t.op == "" {
		if fits == mapping.Truncate {
			return 0, usageErrorf(`give the row with --old and --new, as in --new '{"id": 42}', or --op truncate`)
		}
		return fits, nil
	}
	op, err := parseOp(t.op)
	if err != nil {
		return 0, err
	}
	if op != fits {
		need := map[mapping.Op]string{mapping.Insert: "--new", mapping.Update: "--old and --new", mapping.Delete: "--old", mapping.Truncate: "no row"}
		return 0, usageErrorf("--op %s takes %s", op, need[op])
	}
	return op, nil
}

func parseOp(s string) (mapping.Op, error) {
	op, err := mapping.ParseOp(s)
	if err != nil {
		return 0, usageErrorf("operation %q is not known (insert, update, delete or truncate)", s)
	}
	return op, nil
}

// ruleFor returns the rule of a table, or an error that says which there are.
func ruleFor(m *mapping.Mapper, table string) (*mapping.CompiledRule, error) {
	if rule := m.Rule(table); rule != nil {
		return rule, nil
	}
	var known []string
	for _, r := range m.Rules() {
		known = append(known, r.Rule.Table.String())
	}
	slices.Sort(known)
	hint := suggest.DidYouMean(table, known)
	switch {
	case len(known) == 0:
		hint = "the config has no rules"
	case hint == "":
		hint = "the config has rules for " + strings.Join(known, ", ")
	}
	return nil, usageErrorf("no rule for table %s (%s)", table, hint)
}

// mapperFor compiles the rules and gives the canonical name of a table that a user wrote.
func mapperFor(cfg *config.Config, table string) (string, *mapping.Mapper, error) {
	t, err := mapping.ParseTableName(table)
	if err != nil {
		if syntax, ok := errors.AsType[*mapping.SyntaxError](err); ok && syntax.Hint != "" {
			return "", nil, usageErrorf("table %q: %s (%s)", table, syntax.Msg, syntax.Hint)
		}
		return "", nil, usageErrorf("table %q: %w", table, err)
	}
	m, err := mapping.Compile(cfg.Rules())
	if err != nil {
		return "", nil, err
	}
	for _, p := range cfg.Patterns() {
		if m.Rule(t.String()) == nil && p.Matches(t) {
			return "", nil, usageErrorf("table %s has the rule of %s, at %s, which takes a database to know (use icache-agent explain)", t, p.String(), p.Rule.At("table"))
		}
	}
	return t.String(), m, nil
}

// unique returns the tokens without repetitions, in the order in which they came up.
func unique(tokens []string) []string {
	seen := make(map[string]struct{}, len(tokens))
	return slices.DeleteFunc(tokens, func(t string) bool {
		_, dup := seen[t]
		seen[t] = struct{}{}
		return dup
	})
}
