package mapping

import (
	"strconv"
	"strings"
)

// Kind says what a [Source] takes from a row.
type Kind int

// The kinds of sources.
const (
	KindColumn   Kind = iota // {column}: the text form of the column
	KindElements             // {tags[]}: every element of an array column
	KindJSON                 // {doc->>'lang'}: the text at a path in a json or jsonb column
)

// String returns a word for the kind.
func (k Kind) String() string {
	switch k {
	case KindColumn:
		return "column"
	case KindElements:
		return "elements"
	case KindJSON:
		return "json"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Source is what a placeholder takes from a changed row, and so what a
// trigger must capture for it.
type Source struct {
	column string
	kind   Kind
	path   []step
	hashed bool
	name   string
}

// step is a key or an index in a JSON path.
type step struct {
	key     string
	index   int
	isIndex bool
}

func (s step) String() string {
	if s.isIndex {
		return strconv.Itoa(s.index)
	}
	return "'" + strings.ReplaceAll(s.key, "'", "''") + "'"
}

func (s step) sql() string {
	if s.isIndex {
		return strconv.Itoa(s.index)
	}
	return quoteLiteral(s.key)
}

func newSource(column string, kind Kind, path []step, hashed bool) Source {
	var b strings.Builder
	b.WriteString(quoteOdd(column))
	if kind == KindElements {
		b.WriteString("[]")
	}
	for i, st := range path {
		b.WriteString("->")
		if i == len(path)-1 {
			b.WriteByte('>')
		}
		b.WriteString(st.String())
	}
	if hashed {
		b.WriteString("|hash")
	}
	return Source{column, kind, path, hashed, b.String()}
}

// Name returns the canonical name, under which the outbox stores the value:
// what stands in the braces, without blanks and needless quotes. Two sources
// are the same if their names are.
func (s Source) Name() string { return s.name }

// Column returns the column that the source reads, unquoted.
func (s Source) Column() string { return s.column }

// Kind returns what is taken from the column.
func (s Source) Kind() Kind { return s.kind }

// Hashed reports whether the value is hashed before it leaves the row; see [Hash].
func (s Source) Hashed() bool { return s.hashed }

// SQL returns the expression that yields the value, over a row with that
// alias: text, or for elements a jsonb array of texts. NULL gives NULL, but
// hashed elements give an empty array. Every identifier is quoted; functions
// and types are those of pg_catalog. The alias is used as it is.
func (s Source) SQL(alias string) string {
	col := alias + "." + quoteIdent(s.column)
	switch s.kind {
	case KindElements:
		if s.hashed {
			return "to_jsonb(ARRAY(SELECT " + hashSQL("e.v") + " FROM unnest(" + col + "::text[]) AS e(v)))"
		}
		return "to_jsonb(" + col + "::text[])"
	case KindJSON:
		var b strings.Builder
		b.WriteString("(" + col)
		for i, st := range s.path {
			b.WriteString("->")
			if i == len(s.path)-1 {
				b.WriteByte('>')
			}
			b.WriteString(st.sql())
		}
		b.WriteByte(')')
		col = b.String()
	default:
		col += "::text"
	}
	if s.hashed {
		return hashSQL(col)
	}
	return col
}
