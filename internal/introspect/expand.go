package introspect

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/mapping"
)

// Expand returns the rules of a config with its patterns replaced by a rule for
// each table that they mean: first the rules that are written, which win, then
// those of the first pattern, by name, and so on. Tables that a starter config
// would leave out are left out here as well, except for want of rights.
//
// The tokens are those of a starter config, but never with the name of the
// schema: a table that is added must not change the tokens of another.
//
// Notes are for people; each is one line.
func Expand(ctx context.Context, q querier, cfg *config.Config) (rules []mapping.Rule, notes []string, err error) {
	rules = slices.Clone(cfg.Rules())
	if len(cfg.Patterns()) == 0 {
		return rules, nil, nil
	}
	db, err := Read(ctx, q, Options{Own: cfg.Postgres.Schema, AnyRole: true})
	if err != nil {
		return nil, nil, fmt.Errorf("find the tables of %s: %w", brief(cfg.Patterns()), err)
	}
	known := make(map[mapping.TableName]bool)
	for _, r := range rules {
		known[r.Table] = true
	}
	names := db.bareNames()
	tables := slices.SortedFunc(slices.Values(db.Tables), func(a, b Table) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	for _, p := range cfg.Patterns() {
		found := false
		for _, t := range tables {
			if !p.Matches(t.Name) {
				continue
			}
			found = true
			if !known[t.Name] {
				known[t.Name] = true
				rules = append(rules, t.rule(p, names))
			}
		}
		if !found {
			notes = append(notes, fmt.Sprintf("%s: no table matches %s", p.Rule.At("table"), p.String()))
		}
		for i, e := range p.Exclude {
			only := config.Pattern{Schema: p.Schema, Table: e}
			if !slices.ContainsFunc(tables, func(t Table) bool { return t.Name.Name == e && t.Name.Schema == p.Schema || only.Matches(t.Name) }) {
				notes = append(notes, fmt.Sprintf("%s: no table matches %s, which is excluded", p.Rule.At(fmt.Sprintf("exclude[%d]", i)), only.String()))
			}
		}
	}
	return rules, notes, nil
}

// rule is the rule for a table that a pattern means.
func (t *Table) rule(p config.Pattern, names map[mapping.TableName]string) mapping.Rule {
	r := p.Rule
	r.Fields = maps.Clone(r.Fields)
	r.Table = t.Name
	list, _ := t.tokens(names)
	r.Tokens = make([]string, len(list))
	for i, token := range list {
		r.Tokens[i] = token.template
		if r.Fields == nil {
			continue
		}
		r.Fields[fmt.Sprintf("tokens[%d]", i)] = r.At("table")
	}
	return r
}

// bareNames returns the name that tokens have for each table.
func (db *Database) bareNames() map[mapping.TableName]string {
	names := make(map[mapping.TableName]string)
	add := func(t mapping.TableName) {
		if names[t] = strings.NewReplacer("{", "{{", "}", "}}").Replace(t.Name); t.Name == mapping.Generation {
			names[t] = t.Schema + "." + t.Name
		}
	}
	for _, t := range db.Tables {
		add(t.Name)
		for _, fk := range t.ForeignKeys {
			add(fk.Ref)
		}
	}
	return names
}

func brief(patterns []config.Pattern) string {
	list := make([]string, len(patterns))
	for i := range patterns {
		list[i] = patterns[i].String()
	}
	return strings.Join(list, ", ")
}
