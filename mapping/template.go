package mapping

import (
	"slices"
	"strings"
)

// Template is a parsed token template, such as movie:{id}. It is immutable.
type Template struct {
	parts []part
}

// part is a literal or, if it has one, a placeholder.
type part struct {
	literal string
	holder  *placeholder
}

// placeholder is what stands in braces.
type placeholder struct {
	source Source
	lookup *Lookup // {fk->table.column}
	hash   bool    // of the value looked up; that of a source is part of the source
}

func (h *placeholder) String() string {
	s := h.source.Name()
	if h.lookup != nil {
		s += "->"
		if h.lookup.Ref.Schema != "" {
			s += quoteOdd(h.lookup.Ref.Schema) + "."
		}
		s += quoteOdd(h.lookup.Ref.Name) + "." + quoteOdd(h.lookup.RefColumn)
		if h.hash {
			s += "|hash"
		}
	}
	return "{" + s + "}"
}

// String returns the canonical text of the template; [ParseTemplate] reads it back.
func (t *Template) String() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.holder != nil {
			b.WriteString(p.holder.String())
			continue
		}
		b.WriteString(strings.NewReplacer("{", "{{", "}", "}}").Replace(p.literal))
	}
	return b.String()
}

// Plain returns the token of a template without placeholders, and whether it is one.
func (t *Template) Plain() (string, bool) {
	if len(t.parts) == 1 && t.parts[0].holder == nil {
		return t.parts[0].literal, true
	}
	return "", false
}

// Group returns the group token of everything that the template can yield,
// movie:* for movie:{id}. It reports false if the values decide the group, as
// in {kind}:{id} and movie-{slug}: then only the generation token covers it.
func (t *Template) Group() (string, bool) {
	if t.parts[0].holder != nil {
		return "", false
	}
	return Group(t.parts[0].literal)
}

// Fallback returns the tokens that stand for the template when its values are
// not known: the token itself if it is plain, else its group token, else
// [Generation].
func (t *Template) Fallback() string {
	if token, ok := t.Plain(); ok {
		return token
	}
	if group, ok := t.Group(); ok {
		return group
	}
	return Generation
}

// Sources returns what the template takes from a row, distinct, in order of appearance.
func (t *Template) Sources() []Source {
	var list []Source
	for _, p := range t.parts {
		if p.holder != nil && !slices.ContainsFunc(list, func(s Source) bool { return s.name == p.holder.source.name }) {
			list = append(list, p.holder.source)
		}
	}
	return list
}

// Lookups returns the foreign keys that the template follows, distinct, in
// order of appearance. Only the templates of a [CompiledRule] know the table
// that they belong to.
func (t *Template) Lookups() []Lookup {
	var list []Lookup
	for _, p := range t.parts {
		if p.holder != nil && p.holder.lookup != nil && !slices.Contains(list, *p.holder.lookup) {
			list = append(list, *p.holder.lookup)
		}
	}
	return list
}

// in returns the template as part of a rule for the table.
func (t *Template) in(table TableName) *Template {
	bound := &Template{parts: slices.Clone(t.parts)}
	for i, p := range bound.parts {
		if p.holder == nil || p.holder.lookup == nil {
			continue
		}
		holder, lookup := *p.holder, *p.holder.lookup
		lookup.Table = table
		if lookup.Ref.Schema == "" {
			lookup.Ref.Schema = table.Schema
		}
		holder.lookup = &lookup
		bound.parts[i].holder = &holder
	}
	return bound
}

// Generation is the token that every fragment depends on: one bump outdates everything.
const Generation = "*"

// Group returns the group token of a token, the text before its first colon
// with ":*": movie:* for movie:42. A token without a colon has none.
func Group(token string) (string, bool) {
	group, _, ok := strings.Cut(token, ":")
	if !ok {
		return "", false
	}
	return group + ":*", true
}
