package introspect

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/icache-go/icache-agent/mapping"
)

// token is a template with what there is to say about it.
type token struct{ template, comment string }

// tokenNames returns the name that tokens have for each table.
func (db *Database) tokenNames() map[mapping.TableName]string {
	names := make(map[mapping.TableName]string)
	schemas := make(map[string][]string) // of tables with that bare name
	add := func(t mapping.TableName) {
		if !slices.Contains(schemas[t.Name], t.Schema) {
			schemas[t.Name] = append(schemas[t.Name], t.Schema)
		}
		names[t] = t.Name
	}
	for _, t := range db.Tables {
		add(t.Name)
		for _, fk := range t.ForeignKeys {
			add(fk.Ref)
		}
	}
	for t := range names {
		// The token * outdates everything.
		if len(schemas[t.Name]) > 1 || t.Name == mapping.Generation {
			names[t] = t.Schema + "." + t.Name
		}
		names[t] = literal(names[t])
	}
	return names
}

// literal writes a name in a template.
func literal(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '_' // templates have none
		}
		return r
	}, name)
	return strings.NewReplacer("{", "{{", "}", "}}").Replace(name)
}

// tokens returns the tokens of a rule for the table, and what could not be expressed.
func (t *Table) tokens(names map[mapping.TableName]string) (list []token, notes []string) {
	name := names[t.Name]
	add := func(template, comment string) {
		parsed, err := mapping.ParseTemplate(template)
		if err != nil {
			notes = append(notes, fmt.Sprintf("no token %s: %v", template, err))
			return
		}
		template = parsed.String() // without needless quotes
		for i := range list {
			if list[i].template == template {
				return
			}
		}
		list = append(list, token{template, comment})
	}
	add(name, "")
	if len(t.PrimaryKey) > 0 {
		add(name+placeholders(t.PrimaryKey), textForm(t.PrimaryKey))
	} else {
		notes = append(notes, "no primary key: a row has no token of its own")
	}
	for _, fk := range t.ForeignKeys {
		ref := names[fk.Ref]
		switch columns, comment := fk.inKeyOrder(); {
		case columns != nil:
			add(ref+placeholders(columns), comment)
		case len(fk.Columns) == 1 && len(fk.RefKey) == 1:
			add(fmt.Sprintf("%s:{%s->%s.%s.%s}", ref, quote(fk.Columns[0].Name), quote(fk.Ref.Schema), quote(fk.Ref.Name), quote(fk.RefKey[0])),
				"points to "+comma(fk.RefColumns)+", not to the primary key, which the agent looks up")
		default:
			notes = append(notes, fmt.Sprintf("no token for the foreign key (%s) to %s (%s): it does not point to a primary key",
				comma(fk.Columns), fk.Ref, comma(fk.RefColumns)))
		}
	}
	if t.Partitions > 0 {
		notes = append(notes, fmt.Sprintf("partitioned: the rule covers its %d partitions, and those to come", t.Partitions))
	}
	if len(t.Virtual) > 0 {
		notes = append(notes, "not seen by triggers, because generated when read: "+strings.Join(t.Virtual, ", "))
	}
	return list, notes
}

// inKeyOrder returns the columns in the order of the primary key that they
// point to, or nil if they point to something else.
func (fk *ForeignKey) inKeyOrder() (columns []Column, comment string) {
	if len(fk.RefKey) != len(fk.RefColumns) {
		return nil, ""
	}
	for _, name := range fk.RefKey {
		i := slices.IndexFunc(fk.RefColumns, func(c Column) bool { return c.Name == name })
		if i < 0 {
			return nil, ""
		}
		columns = append(columns, fk.Columns[i])
		if a, b := fk.Columns[i].Type, fk.RefColumns[i].Type; !sameText(a, b) {
			comment = fmt.Sprintf("%s is %s here and %s there: see that both have the same text", fk.Columns[i].Name, a, b)
		}
	}
	return columns, comment
}

// sameText reports whether equal values of two types have the same text.
func sameText(a, b string) bool {
	kind := func(t string) string {
		base, _, _ := strings.Cut(t, "(")
		switch base {
		case "smallint", "integer", "bigint":
			return "integer"
		case "text", "character varying":
			return "text"
		}
		return t
	}
	return kind(a) == kind(b)
}

// textForm says what the text of a key looks like, where that is a question.
func textForm(key []Column) string {
	var list []string
	for _, c := range key {
		switch base, _, _ := strings.Cut(c.Type, "("); {
		case strings.HasPrefix(base, "timestamp") && strings.HasSuffix(c.Type, "with time zone"):
			list = append(list, c.Name+" in UTC, as in 2026-01-31 12:00:00+00")
		case base == "bytea":
			list = append(list, c.Name+` in hexadecimal, as in \xc0ffee`)
		}
	}
	return strings.Join(list, "; ")
}

func placeholders(columns []Column) string {
	var b strings.Builder
	for _, c := range columns {
		b.WriteString(":{" + quote(c.Name) + "}")
	}
	return b.String()
}

// quote quotes a name for a template, whatever is in it.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func comma(columns []Column) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}
