package migrations

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/internal/suggest"
	"github.com/icache-go/icache-agent/mapping"
)

// mapped is a rule with its table.
type mapped struct {
	rule  *mapping.CompiledRule
	table *table
}

// checker finds the rules that do not fit the database.
type checker struct {
	tx       pgx.Tx
	session  session
	purpose  purpose
	in       *installed
	tables   map[string]*table // nil for a table that does not exist
	all      []mapping.TableName
	problems []Problem
}

// check reads the tables of the rules and returns those that fit, with the
// problems of the others.
func (m *Migrator) check(ctx context.Context, tx pgx.Tx, s session, in *installed, p purpose) ([]mapped, []Problem, error) {
	c := &checker{tx: tx, session: s, purpose: p, in: in, tables: make(map[string]*table)}
	var fit []mapped
	for _, rule := range m.rules {
		before := len(c.problems)
		t, err := c.rule(ctx, rule)
		if err != nil {
			return nil, nil, err
		}
		if len(c.problems) == before {
			fit = append(fit, mapped{rule, t})
		}
	}
	c.inheritance(m.rules)
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	fit = slices.DeleteFunc(fit, func(f mapped) bool { return c.isBroken(f.rule) })
	return fit, c.problems, nil
}

func (c *checker) isBroken(rule *mapping.CompiledRule) bool {
	name := rule.Rule.Table.String()
	return slices.ContainsFunc(c.problems, func(p Problem) bool { return p.Table == name })
}

func (c *checker) fail(rule *mapping.CompiledRule, field, msg, hint string) {
	c.problems = append(c.problems, Problem{rule.Rule.At(field), rule.Rule.Table.String(), msg, hint})
}

// table reads a table once.
func (c *checker) table(ctx context.Context, name mapping.TableName) (*table, error) {
	if t, ok := c.tables[name.String()]; ok {
		return t, nil
	}
	t, err := readTable(ctx, c.tx, name)
	if err == nil {
		c.tables[name.String()] = t
	}
	return t, err
}

func (c *checker) rule(ctx context.Context, rule *mapping.CompiledRule) (*table, error) {
	name := rule.Rule.Table
	t, err := c.table(ctx, name)
	if err != nil {
		return nil, err
	}
	if t == nil {
		hint, err := c.meantTable(ctx, name)
		c.fail(rule, "table", fmt.Sprintf("table %s does not exist", name), hint)
		return nil, err
	}
	switch t.kind {
	case kindTable, kindPartitioned:
	case 'v', 'm':
		c.fail(rule, "table", name.String()+" is a view", "write the rule for the tables behind it")
		return t, nil
	case 'f':
		c.fail(rule, "table", name.String()+" is a foreign table: triggers cannot see what changes it elsewhere",
			"run an agent beside the database that owns it")
		return t, nil
	default:
		c.fail(rule, "table", name.String()+" is not a table", "")
		return t, nil
	}
	if t.parent != nil {
		c.fail(rule, "table", fmt.Sprintf("%s is a partition of %s", name, *t.parent), "write the rule for "+t.parent.String())
		return t, nil
	}
	if !t.mayTrigger && c.purpose == toApply {
		c.fail(rule, "table", fmt.Sprintf("role %s may not create triggers on %s", c.session.role, name),
			fmt.Sprintf("GRANT TRIGGER ON %s TO %s", name.SQL(), ident(c.session.role)))
	}
	c.columns(rule, t)
	return t, errors.Join(c.lookups(ctx, rule), c.when(ctx, rule, t))
}

// meantTable suggests the table that somebody probably meant.
func (c *checker) meantTable(ctx context.Context, name mapping.TableName) (string, error) {
	if now, ok := c.in.renamed(name); ok {
		return "it was renamed to " + now.String(), nil
	}
	if c.all == nil {
		var err error
		if c.all, err = tableNames(ctx, c.tx); err != nil {
			return "", fmt.Errorf("read the names of the tables: %w", err)
		}
	}
	var full []string
	for _, other := range c.all {
		if strings.EqualFold(other.Name, name.Name) {
			return "did you mean " + other.String() + "?", nil
		}
		full = append(full, other.String())
	}
	if meant := suggest.Closest(name.String(), full); meant != "" {
		return "did you mean " + meant + "?", nil
	}
	return "create it before the triggers", nil
}

func (c *checker) columns(rule *mapping.CompiledRule, t *table) {
	for i, name := range rule.Rule.Columns {
		c.column(rule, fmt.Sprintf("columns[%d]", i), t, name)
	}
	for i, template := range rule.Templates {
		field := fmt.Sprintf("tokens[%d]", i)
		for _, src := range template.Sources() {
			col := c.column(rule, field, t, src.Column())
			switch {
			case col == nil:
			case src.Kind() == mapping.KindElements && !col.isArray:
				c.fail(rule, field, fmt.Sprintf("{%s}: column %q is %s, not an array", src.Name(), col.name, col.typeName),
					fmt.Sprintf("write {%s}", col.name))
			case src.Kind() == mapping.KindJSON && !col.isJSON():
				c.fail(rule, field, fmt.Sprintf("{%s}: column %q is %s, not json or jsonb", src.Name(), col.name, col.typeName), "")
			}
		}
	}
}

// column returns the column, or nil after it has reported what is wrong.
func (c *checker) column(rule *mapping.CompiledRule, field string, t *table, name string) *column {
	col := t.column(name)
	switch {
	case col == nil:
		hint := suggest.DidYouMean(name, t.columnNames())
		if hint == "" {
			hint = "its columns are " + strings.Join(t.columnNames(), ", ")
		}
		c.fail(rule, field, fmt.Sprintf("table %s has no column %q", t.name, name), hint)
	case col.isVirtual:
		c.fail(rule, field, fmt.Sprintf("column %q of %s is generated when it is read: triggers see NULL", name, t.name),
			"make it STORED, or use the columns that it is computed from")
		return nil
	}
	return col
}

// lookups checks the tables that templates look foreign keys up in.
func (c *checker) lookups(ctx context.Context, rule *mapping.CompiledRule) error {
	for i, template := range rule.Templates {
		field := fmt.Sprintf("tokens[%d]", i)
		for _, l := range template.Lookups() {
			t, err := c.table(ctx, l.Ref)
			if err != nil {
				return err
			}
			if t == nil {
				hint, err := c.meantTable(ctx, l.Ref)
				if err != nil {
					return err
				}
				c.fail(rule, field, fmt.Sprintf("table %s does not exist", l.Ref), hint)
			} else if t.column(l.RefColumn) == nil {
				c.fail(rule, field, fmt.Sprintf("table %s has no column %q", l.Ref, l.RefColumn),
					suggest.DidYouMean(l.RefColumn, t.columnNames()))
			}
		}
	}
	return nil
}

// subquery finds the word SELECT outside of quotes.
var (
	quoted   = regexp.MustCompile(`'(?:[^']|'')*'|"(?:[^"]|"")*"`)
	subquery = regexp.MustCompile(`(?i)\bselect\b`)
)

// when has the server parse the condition, in the way that the trigger will:
// over the columns that it sees, with nothing but pg_catalog in the search path.
func (c *checker) when(ctx context.Context, rule *mapping.CompiledRule, t *table) error {
	when := rule.Rule.When
	if when == "" {
		return nil
	}
	if subquery.MatchString(quoted.ReplaceAllString(when, "")) {
		c.fail(rule, "when", "the condition has a subquery", "use the columns of the row only")
		return nil
	}
	var columns []string
	for _, col := range t.columns {
		if !col.isVirtual {
			columns = append(columns, fmt.Sprintf("NULL::%s AS %s", col.typeName, ident(col.name)))
		}
	}
	// Its own savepoint, because a mistake ends the transaction.
	nested, err := c.tx.Begin(ctx)
	if err != nil {
		return fmt.Errorf("check a condition: %w", err)
	}
	defer nested.Rollback(ctx) //nolint:errcheck // what counts is the error below
	query := fmt.Sprintf("SELECT FROM (SELECT %s) AS %s WHERE (\n%s\n)", strings.Join(columns, ", "), ident(t.name.Name), when)
	description, err := nested.Prepare(ctx, "", query)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		hint := "use columns of the table, and name functions outside pg_catalog with their schema"
		if pgErr.Hint != "" && pgErr.Code != codeUndefinedFunction {
			hint = pgErr.Hint
		}
		c.fail(rule, "when", "the condition is not valid: "+pgErr.Message, hint)
		return nil
	}
	if err != nil {
		return fmt.Errorf("check a condition: %w", err)
	}
	if len(description.ParamOIDs) > 0 {
		c.fail(rule, "when", "the condition has a parameter", "use the columns of the row only")
	}
	return nil
}

// inheritance refuses rules for a table and for one that inherits from it: a
// statement for the first writes rows of the second without its triggers.
func (c *checker) inheritance(rules []*mapping.CompiledRule) {
	for _, rule := range rules {
		name := rule.Rule.Table
		for _, other := range rules {
			parent := c.tables[other.Rule.Table.String()]
			if parent != nil && slices.ContainsFunc(parent.children, func(r relation) bool { return r.name == name }) {
				c.fail(rule, "table", fmt.Sprintf("%s inherits from %s, which has a rule too", name, parent.name),
					"write one rule, for "+parent.name.String())
			}
		}
	}
}
