package mapping

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultSchema is the schema of a table that is written without one.
const DefaultSchema = "public"

// maxName is the longest identifier that Postgres keeps, in bytes.
const maxName = 63

// TableName is the name of a table, exactly as the catalog has it: no quotes,
// no folding. It is comparable.
type TableName struct {
	Schema, Name string
}

// ParseTableName reads table, schema.table and their quoted forms, such as
// public."Odd Name". Without a schema it is [DefaultSchema]. Names are taken
// as they are written: unlike SQL, an unquoted name is not folded to lower
// case. Mistakes are a *[SyntaxError].
func ParseTableName(s string) (TableName, error) {
	p := parser{s: s}
	first, err := p.name("table")
	if err != nil {
		return TableName{}, err
	}
	t := TableName{DefaultSchema, first}
	if p.take(".") {
		if t.Name, err = p.name("table"); err != nil {
			return TableName{}, err
		}
		t.Schema = first
	}
	if p.i < len(p.s) {
		hint := `write table or schema.table, odd names in double quotes: public."Odd Name"`
		if p.s[p.i] == '.' {
			hint = "write schema.table: a database cannot be named, the agent connects to one"
		}
		return TableName{}, p.fail(p.i, "unexpected "+p.here(), hint)
	}
	return t, nil
}

// String returns the canonical form schema.table, each part in double quotes
// where SQL needs them to keep the name as it is. [ParseTableName] reads it
// back, and so does a cast to regclass.
func (t TableName) String() string { return quoteFolded(t.Schema) + "." + quoteFolded(t.Name) }

// SQL returns the name with both parts quoted, for use in a statement.
func (t TableName) SQL() string { return quoteIdent(t.Schema) + "." + quoteIdent(t.Name) }

// ParseColumn reads the name of a column: id, userId or "Odd Name". It is
// taken as it is written. Mistakes are a *[SyntaxError].
func ParseColumn(s string) (string, error) {
	p := parser{s: s}
	name, err := p.name("column")
	if err != nil {
		return "", err
	}
	if p.i < len(p.s) {
		return "", p.fail(p.i, "unexpected "+p.here(), `write one column, odd names in double quotes: "Odd Name"`)
	}
	return name, nil
}

// quoteIdent quotes a name for SQL.
func quoteIdent(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// quoteFolded quotes a name only if SQL would not read it back unchanged.
func quoteFolded(name string) string {
	for i := range len(name) {
		c := name[i]
		if c == '_' || 'a' <= c && c <= 'z' || i > 0 && (c == '$' || '0' <= c && c <= '9') {
			continue
		}
		return quoteIdent(name)
	}
	if name == "" {
		return `""`
	}
	return name
}

// quoteOdd quotes a name only if a template needs the quotes.
func quoteOdd(name string) string {
	if bareName(name) == len(name) && name != "" {
		return name
	}
	return quoteIdent(name)
}

// bareName returns the length of the name without quotes that s begins with.
func bareName(s string) int {
	for i, r := range s {
		switch {
		case r == '_', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
		case i > 0 && (r == '$' || '0' <= r && r <= '9'):
		case r >= utf8.RuneSelf && r != utf8.RuneError && (unicode.IsLetter(r) || i > 0 && (unicode.IsMark(r) || unicode.IsDigit(r))):
		default:
			return i
		}
	}
	return len(s)
}

// quoteLiteral quotes a text for SQL, whatever standard_conforming_strings says.
func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// parser reads names and templates.
type parser struct {
	s string
	i int
}

func (p *parser) fail(offset int, msg, hint string) error {
	return &SyntaxError{Offset: offset, Msg: msg, Hint: hint}
}

// here describes what stands at the current place.
func (p *parser) here() string {
	if p.i >= len(p.s) {
		return "end"
	}
	r, _ := utf8.DecodeRuneInString(p.s[p.i:])
	return strconv.Quote(string(r))
}

// take steps over lit if it comes next.
func (p *parser) take(lit string) bool {
	if strings.HasPrefix(p.s[p.i:], lit) {
		p.i += len(lit)
		return true
	}
	return false
}

// blanks steps over blanks.
func (p *parser) blanks() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t') {
		p.i++
	}
}

// name reads a bare or quoted name of a thing of that kind.
func (p *parser) name(kind string) (string, error) {
	start := p.i
	var name string
	if p.i < len(p.s) && p.s[p.i] == '"' {
		var err error
		if name, err = p.quoted('"', kind+" name"); err != nil {
			return "", err
		}
	} else {
		n := bareName(p.s[p.i:])
		name = p.s[p.i : p.i+n]
		p.i += n
	}
	switch {
	case name == "":
		return "", p.fail(start, "expected a "+kind+" name, found "+p.here(), `odd names go in double quotes: "Odd Name"`)
	case len(name) > maxName:
		return "", p.fail(start, kind+" name is longer than "+strconv.Itoa(maxName)+" bytes", "Postgres keeps no longer names")
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return "", p.fail(start, kind+" name is not valid UTF-8 text", "")
	}
	return name, nil
}

// quoted reads a text in quotes in which a doubled quote stands for itself.
func (p *parser) quoted(quote byte, what string) (string, error) {
	start := p.i
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		if p.s[p.i] != quote {
			b.WriteByte(p.s[p.i])
			continue
		}
		if p.i+1 >= len(p.s) || p.s[p.i+1] != quote {
			p.i++
			return b.String(), nil
		}
		b.WriteByte(quote)
		p.i++
	}
	return "", p.fail(start, "unclosed quote around a "+what, "close it with "+string(quote)+", and double a quote inside")
}
