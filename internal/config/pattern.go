package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/icache-go/icache-agent/internal/glob"
	"github.com/icache-go/icache-agent/mapping"
)

// Pattern is an item of the list tables that means many: table: "public.*".
// Which ones is only known with a connection to the database.
type Pattern struct {
	Schema  string
	Table   string   // name, with the wildcards * and ?
	Exclude []string // names, with wildcards, that it does not mean
	// Rule has everything but the table and the tokens.
	Rule mapping.Rule
}

// Matches reports whether the pattern means a table.
func (p *Pattern) Matches(t mapping.TableName) bool {
	return t.Schema == p.Schema && glob.Match(p.Table, t.Name) &&
		!slices.ContainsFunc(p.Exclude, func(e string) bool { return e == t.Name || glob.Match(e, t.Name) })
}

// String returns the pattern as schema.table.
func (p *Pattern) String() string { return p.Schema + "." + p.Table }

// Patterns returns the items of the list tables that mean many, in order.
// [Config.Rules] has the others, which come first where both mean a table.
func (c *Config) Patterns() []Pattern { return c.patterns }

// isPattern reports whether a table is written with a wildcard outside of quotes.
func isPattern(table string) bool {
	quoted := false
	for _, r := range table {
		switch {
		case r == '"':
			quoted = !quoted
		case r == '*' && !quoted:
			return true
		}
	}
	return false
}

// wildcards are what a name with wildcards is made of.
const wildcards = "a name with wildcards is letters, digits, _, $, -, * and ?, without quotes: public.log_*"

// splitPattern reads [schema.]name, either of which may be quoted, and the
// latter have wildcards instead.
func splitPattern(text string) (schema, name string, err *mapping.Error) {
	fail := func(cause error) *mapping.Error {
		if cause != nil {
			return tableProblem(text, mapping.Position{}, cause)
		}
		return &mapping.Error{Msg: "table " + brief(text) + " is not a name with wildcards", Hint: wildcards}
	}
	if !isPattern(text) {
		t, err := mapping.ParseTableName(text)
		if err != nil {
			return "", "", fail(err)
		}
		if bare, err := mapping.ParseColumn(text); err == nil { // one name
			return "", bare, nil
		}
		return t.Schema, t.Name, nil
	}
	name = text
	if i := strings.LastIndexByte(text, '.'); i >= 0 {
		name = text[i+1:]
		t, err := mapping.ParseTableName(text[:i] + ".x")
		if err != nil {
			return "", "", fail(err)
		}
		schema = t.Schema
	}
	if strings.ContainsFunc(name, func(r rune) bool { return strings.ContainsRune("\"'(){}[],;: /\\\t\n", r) }) {
		return "", "", fail(nil)
	}
	return schema, name, nil
}

// pattern makes a pattern of an item. Mistakes come back.
func (t *Table) pattern(l *layer, path string) (Pattern, []*mapping.Error) {
	bare := *t
	bare.Table = ""
	rule, problems := bare.rule(l, path)
	rule.Table = mapping.TableName{}
	p := Pattern{Schema: mapping.DefaultSchema, Rule: rule}
	fail := func(field string, e *mapping.Error) {
		e.Pos = rule.At(field)
		problems = append(problems, l.pointed(e))
	}
	schema, name, mistake := splitPattern(t.Table)
	if mistake != nil {
		fail("table", mistake)
	}
	if schema != "" {
		p.Schema = schema
	}
	p.Table = name
	for what, given := range map[string]bool{"tokens": len(t.Tokens) > 0, "columns": len(t.Columns) > 0, "when": t.When != ""} {
		if given {
			fail(what, &mapping.Error{
				Msg:  what + " in a rule for many tables, " + brief(t.Table),
				Hint: "tokens come from the primary key and the foreign keys of each; write a rule of its own for a table that needs " + what,
			})
		}
	}
	for i, text := range t.Exclude {
		field := fmt.Sprintf("exclude[%d]", i)
		schema, name, mistake := splitPattern(text)
		switch {
		case mistake != nil:
			fail(field, mistake)
		case schema != "" && schema != p.Schema:
			fail(field, &mapping.Error{Msg: "excluded table " + brief(text) + " is not in schema " + p.Schema, Hint: "leave it out, nothing of that schema is watched here"})
		default:
			p.Exclude = append(p.Exclude, name)
		}
	}
	return p, problems
}
