package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DefaultMaxKeys is the number of distinct keys above which a statement is
// recorded without them.
const DefaultMaxKeys = 1000

// Rule says which tokens a change of a table outdates.
type Rule struct {
	// Table that is watched. A table has one rule at most.
	Table TableName
	// On lists the operations that count. Empty means all.
	On []Op
	// Columns are the columns, besides those in Tokens, whose change counts.
	// Names are as [ParseColumn] reads them. Empty means every column.
	Columns []string
	// When is an SQL condition over a row, old or new; rows for which it does
	// not hold in either form do not count. Empty means every row.
	When string
	// Tokens are templates; see [ParseTemplate]. At least one.
	Tokens []string
	// MaxKeys is the number of distinct keys above which a statement is
	// recorded without them, and of elements above which an array counts as
	// unknown. Zero means [DefaultMaxKeys].
	MaxKeys int
	// Always makes the triggers fire on a logical-replication subscriber too.
	Always bool
	// Settle is the time after which the tokens are bumped once more, for
	// readers of a replica that lags. Zero means never.
	Settle time.Duration
	// SettleReplicas has the tokens bumped once more as soon as every standby
	// that streams from the server has replayed the change. It excludes Settle.
	SettleReplicas bool

	// Pos is where the rule is written, for error messages.
	Pos Position
	// Fields are the places of its parts: "table", "when", "tokens[0]", ….
	// May be nil.
	Fields map[string]Position
}

// At returns where a part of the rule is written, such as "tokens[0]"; where
// that is not known, where the rule is.
func (r *Rule) At(field string) Position {
	if p, ok := r.Fields[field]; ok {
		return p
	}
	return r.Pos
}

// CompiledRule is a checked rule. It is immutable and safe for concurrent use.
type CompiledRule struct {
	// Rule as it was given, with the defaults filled in: On lists every
	// operation that counts, Columns are exact names, MaxKeys is positive.
	Rule Rule
	// Templates in the order of Rule.Tokens.
	Templates []*Template

	name     string // Rule.Table.String()
	ops      uint8
	sources  []Source
	lookups  []Lookup
	plain    []string // tokens of the plain templates
	fallback []string // tokens for a change with unknown keys
	dynamic  []dynamic
}

// Sources returns what a trigger must capture, distinct, in order of
// appearance in the templates.
func (r *CompiledRule) Sources() []Source { return slices.Clone(r.sources) }

// Follows reports whether any template follows a foreign key.
func (r *CompiledRule) Follows() bool { return len(r.lookups) > 0 }

// Lookups returns the foreign keys that the templates follow, distinct, in
// order of appearance.
func (r *CompiledRule) Lookups() []Lookup { return slices.Clone(r.lookups) }

// Plain returns the tokens that every change of the table bumps, distinct.
func (r *CompiledRule) Plain() []string { return slices.Clone(r.plain) }

// Fallback returns the tokens for a change whose keys are unknown, distinct:
// the plain tokens, and for every other template its group token or [Generation].
func (r *CompiledRule) Fallback() []string { return slices.Clone(r.fallback) }

// Covers reports whether an operation counts.
func (r *CompiledRule) Covers(op Op) bool { return op.bit() == 0 || r.ops&op.bit() != 0 }

// Mapper turns changes into tokens. It is immutable and safe for concurrent use.
type Mapper struct {
	rules  []*CompiledRule
	byName map[string]*CompiledRule
}

// Compile checks rules and makes a mapper of them. The error joins every
// mistake in every rule, each an *[Error] with its position, in the order of
// the rules. No rules is not a mistake.
func Compile(rules []Rule) (*Mapper, error) {
	m := &Mapper{byName: make(map[string]*CompiledRule, len(rules))}
	first := make(map[string]*Rule, len(rules))
	var errs []error
	for i := range rules {
		r := &rules[i]
		c, mistakes := compileRule(r)
		errs = append(errs, mistakes...)
		name := r.Table.String()
		if r.Table.Name != "" {
			if earlier, ok := first[name]; ok {
				msg := "a second rule for table " + name
				if at := earlier.At("table"); !at.IsZero() {
					msg += ", the first is at " + at.String()
				}
				errs = append(errs, &Error{Pos: r.At("table"), Msg: msg, Hint: "put the tokens of both into one rule"})
				continue
			}
			first[name] = r
		}
		if len(mistakes) == 0 {
			m.rules = append(m.rules, c)
			m.byName[name] = c
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return m, nil
}

// Rules returns the rules in the order in which they were given.
func (m *Mapper) Rules() []*CompiledRule { return slices.Clone(m.rules) }

// Rule returns the rule for a table by its canonical name, or nil.
func (m *Mapper) Rule(table string) *CompiledRule { return m.byName[table] }

func compileRule(r *Rule) (*CompiledRule, []error) {
	c := &CompiledRule{Rule: *r, name: r.Table.String()}
	var errs []error
	fail := func(field, msg, hint string, cause error) {
		errs = append(errs, &Error{Pos: r.At(field), Msg: msg, Hint: hint, Err: cause})
	}

	if r.Table.Name == "" || r.Table.Schema == "" {
		fail("table", "a rule without a table", `write table: schema.table`, nil)
	}
	c.Rule.On = nil
	for i, op := range r.On {
		field := fmt.Sprintf("on[%d]", i)
		switch {
		case op.bit() == 0:
			fail(field, "unknown operation "+op.String(), "use insert, update, delete or truncate", nil)
		case c.ops&op.bit() != 0:
			fail(field, "operation "+op.String()+" listed twice", "remove one", nil)
		}
		c.ops |= op.bit()
	}
	for _, op := range Ops() {
		if len(r.On) == 0 || c.ops&op.bit() != 0 {
			c.Rule.On = append(c.Rule.On, op)
		}
	}
	if len(r.On) == 0 {
		c.ops = 0xff
	}
	c.Rule.Columns = nil
	for i, written := range r.Columns {
		field := fmt.Sprintf("columns[%d]", i)
		name, err := ParseColumn(written)
		if err != nil {
			fail(field, fmt.Sprintf("column %q: %s", written, message(err)), hint(err), err)
		} else if slices.Contains(c.Rule.Columns, name) {
			fail(field, fmt.Sprintf("column %q listed twice", name), "remove one", nil)
		}
		c.Rule.Columns = append(c.Rule.Columns, name)
	}
	if c.Rule.When = strings.TrimSpace(r.When); strings.ContainsRune(r.When, 0) {
		fail("when", "the condition holds a zero byte", "remove it", nil)
	}
	switch {
	case r.MaxKeys < 0:
		fail("max_keys", fmt.Sprintf("max_keys is %d", r.MaxKeys), "use a number from 1 up, or leave it out for 1000", nil)
	case r.MaxKeys == 0:
		c.Rule.MaxKeys = DefaultMaxKeys
	}
	if r.Settle < 0 {
		fail("settle", fmt.Sprintf("settle is %s", r.Settle), "use a duration from 0s up", nil)
	}
	if r.Settle > 0 && r.SettleReplicas {
		fail("settle", "settle is both a time and replicas", "choose one", nil)
	}
	if len(r.Tokens) == 0 {
		fail("tokens", "a rule without tokens", `write tokens: ["movies", "movie:{id}"]`, nil)
	}
	for i, text := range r.Tokens {
		field := fmt.Sprintf("tokens[%d]", i)
		t, err := ParseTemplate(text)
		if err != nil {
			fail(field, fmt.Sprintf("token %q: %s", text, message(err)), hint(err), err)
			continue
		}
		if slices.ContainsFunc(c.Templates, func(o *Template) bool { return o.String() == t.String() }) {
			fail(field, fmt.Sprintf("token %q listed twice", text), "remove one", nil)
		}
		c.Templates = append(c.Templates, t.in(r.Table))
	}
	c.prepare()
	return c, errs
}

func message(err error) string {
	if s, ok := errors.AsType[*SyntaxError](err); ok {
		return s.Msg
	}
	return err.Error()
}

func hint(err error) string {
	if s, ok := errors.AsType[*SyntaxError](err); ok {
		return s.Hint
	}
	return ""
}
