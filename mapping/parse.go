package mapping

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/icache-go/icache-agent/internal/suggest"
)

// MaxTokenLen is the length in bytes past which a token is not bumped itself;
// its group token is bumped instead, or [Generation] if it has none.
const MaxTokenLen = 512

// ParseTemplate reads a token template; the package documentation describes
// the language. Mistakes are a *[SyntaxError].
func ParseTemplate(s string) (*Template, error) {
	p := parser{s: s}
	t := &Template{}
	elements := ""
	for p.i < len(p.s) {
		if lit, err := p.literal(); err != nil {
			return nil, err
		} else if lit != "" {
			t.parts = append(t.parts, part{literal: lit})
			continue
		}
		start := p.i
		h, err := p.placeholder()
		if err != nil {
			return nil, err
		}
		if h.source.kind == KindElements {
			if elements != "" && elements != h.source.name {
				return nil, p.fail(start, "a second array in one template", "a template takes the elements of one array; write a template for each")
			}
			elements = h.source.name
		}
		t.parts = append(t.parts, part{holder: h})
	}
	if len(t.parts) == 0 {
		return nil, p.fail(0, "empty template", `write a token such as "movies" or "movie:{id}"`)
	}
	if strings.TrimSpace(s) != s {
		return nil, p.fail(len(s)-len(strings.TrimLeft(s, " \t")), "blank at the start or the end of a template", "a token is compared as it is, blanks included; remove it")
	}
	return t, nil
}

// literal reads up to the next placeholder.
func (p *parser) literal() (string, error) {
	var b strings.Builder
	start := p.i
	for p.i < len(p.s) {
		r, size := utf8.DecodeRuneInString(p.s[p.i:])
		switch {
		case p.take("{{"):
			b.WriteByte('{')
			continue
		case p.take("}}"):
			b.WriteByte('}')
			continue
		case r == '{':
			return b.String(), p.literalLen(start, b.Len())
		case r == '}':
			return "", p.fail(p.i, `"}" without "{"`, `write "}}" for a literal brace`)
		case r == utf8.RuneError && size <= 1:
			return "", p.fail(p.i, "template is not valid UTF-8 text", "")
		case unicode.IsControl(r):
			return "", p.fail(p.i, "control character "+strconv.QuoteRune(r)+" in a template", "remove it")
		}
		b.WriteString(p.s[p.i : p.i+size])
		p.i += size
	}
	return b.String(), p.literalLen(start, b.Len())
}

func (p *parser) literalLen(start, n int) error {
	if n > MaxTokenLen {
		return p.fail(start, "template is longer than a token may be, "+strconv.Itoa(MaxTokenLen)+" bytes", "shorten it")
	}
	return nil
}

// placeholder reads one, from brace to brace.
func (p *parser) placeholder() (*placeholder, error) {
	open := p.i
	p.i++
	p.blanks()
	if p.take("}") {
		return nil, p.fail(open, "empty placeholder {}", `write {column}, or "{{}}" for literal braces`)
	}
	if p.i >= len(p.s) {
		return nil, p.unclosed(open)
	}
	column, err := p.name("column")
	if err != nil {
		return nil, err
	}
	h := &placeholder{}
	kind := KindColumn
	var path []step
	p.blanks()
	switch {
	case p.i < len(p.s) && p.s[p.i] == '[':
		if !p.take("[]") {
			return nil, p.fail(p.i, "unexpected "+p.here(), "write {"+quoteOdd(column)+"[]} for a token per element; a single element cannot be named")
		}
		kind = KindElements
	case strings.HasPrefix(p.s[p.i:], "->"):
		if path, h.lookup, err = p.arrows(column); err != nil {
			return nil, err
		}
		if path != nil {
			kind = KindJSON
		}
	}
	hashed, err := p.modifiers()
	if err != nil {
		return nil, err
	}
	if !p.take("}") {
		return nil, p.unexpected(open, column)
	}
	h.hash = hashed && h.lookup != nil
	h.source = newSource(column, kind, path, hashed && h.lookup == nil)
	return h, nil
}

// arrows reads what follows the column: a path into JSON, or a foreign key's target.
func (p *parser) arrows(column string) ([]step, *Lookup, error) {
	var path []step
	for {
		p.blanks()
		at := p.i
		last := p.take("->>")
		if !last && !p.take("->") {
			return nil, nil, p.fail(at, "a JSON path that does not end in text", "use ->> before the last key")
		}
		p.blanks()
		if len(path) == 0 && !last && p.i < len(p.s) && (p.s[p.i] == '"' || bareName(p.s[p.i:]) > 0) {
			l, err := p.lookup(column)
			return nil, l, err
		}
		st, err := p.step()
		if err != nil {
			return nil, nil, err
		}
		path = append(path, st)
		if last {
			return path, nil, nil
		}
	}
}

// step reads a key or an index of a JSON path.
func (p *parser) step() (step, error) {
	start := p.i
	if p.i < len(p.s) && p.s[p.i] == '\'' {
		key, err := p.quoted('\'', "JSON key")
		if err == nil && (!utf8.ValidString(key) || strings.IndexByte(key, 0) >= 0) {
			err = p.fail(start, "JSON key is not valid UTF-8 text", "")
		}
		return step{key: key}, err
	}
	p.take("-")
	for p.i < len(p.s) && '0' <= p.s[p.i] && p.s[p.i] <= '9' {
		p.i++
	}
	if n, err := strconv.ParseInt(p.s[start:p.i], 10, 32); err == nil {
		return step{index: int(n), isIndex: true}, nil
	}
	p.i = start
	hint := "write the key in single quotes, ->>'key', or an index, ->>0"
	if n := bareName(p.s[p.i:]); n > 0 {
		hint = "write the key in single quotes: '" + p.s[p.i:p.i+n] + "'"
	}
	return step{}, p.fail(start, "expected a JSON key or an index, found "+p.here(), hint)
}

// lookup reads table.column or schema.table.column.
func (p *parser) lookup(column string) (*Lookup, error) {
	start := p.i
	var names []string
	for len(names) == 0 || p.take(".") {
		name, err := p.name("table or column")
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	l := &Lookup{Column: column}
	switch len(names) {
	case 2:
		l.Ref.Name, l.RefColumn = names[0], names[1]
	case 3:
		l.Ref.Schema, l.Ref.Name, l.RefColumn = names[0], names[1], names[2]
	default:
		return nil, p.fail(start, "expected table.column or a JSON key", "write "+quoteOdd(column)+"->table.column to follow a foreign key, "+quoteOdd(column)+"->>'"+strings.ReplaceAll(names[0], "'", "''")+"' for a JSON field")
	}
	return l, nil
}

// modifiers reads |hash.
func (p *parser) modifiers() (hashed bool, err error) {
	for {
		p.blanks()
		if !p.take("|") {
			return hashed, nil
		}
		p.blanks()
		start := p.i
		n := bareName(p.s[p.i:])
		word := p.s[p.i : p.i+n]
		p.i += n
		switch {
		case word != "hash":
			hint := suggest.DidYouMean(word, []string{"hash"})
			if hint == "" {
				hint = "the only modifier is |hash"
			}
			return false, p.fail(start, "unknown modifier "+strconv.Quote(word), hint)
		case hashed:
			return false, p.fail(start, "|hash twice", "once is enough")
		}
		hashed = true
	}
}

func (p *parser) unclosed(open int) error {
	return p.fail(open, `unclosed "{"`, `close it with "}", or write "{{" for a literal brace`)
}

// unexpected says what is wrong where the closing brace should be.
func (p *parser) unexpected(open int, column string) error {
	if p.i >= len(p.s) {
		return p.unclosed(open)
	}
	hint := `odd column names go in double quotes: {"Odd Name"}`
	switch p.s[p.i] {
	case '.':
		c := quoteOdd(column)
		hint = "write {" + c + "->>'key'} for a JSON field, {" + c + "->table.column} to follow a foreign key; columns are those of the rule's table"
	case ':':
		hint = "a placeholder has no format; the value is the column's text form"
	case '{':
		hint = `close the first "{" before the next one`
	case ',':
		hint = "one column per placeholder: {a}:{b}"
	}
	return p.fail(p.i, "unexpected "+p.here()+" in a placeholder", hint)
}
