package mapping

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep values may nest, as in encoding/json.
const maxDepth = 10000

// scanner reads the keys of an outbox row. It accepts exactly what
// encoding/json accepts; it is written out because it runs for every change.
type scanner struct {
	data []byte
	i    int
	text []byte // texts that had to be unescaped; slices of it are given out
}

func (s *scanner) fail(want string) error {
	if s.i >= len(s.data) {
		return fmt.Errorf("%w: expected %s, found the end", ErrKeys, want)
	}
	return fmt.Errorf("%w: expected %s at offset %d", ErrKeys, want, s.i)
}

// next steps over blanks and returns the byte there, 0 at the end.
func (s *scanner) next() byte {
	for s.i < len(s.data) {
		switch c := s.data[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

// word steps over true, false or null.
func (s *scanner) word(w string) error {
	if len(s.data)-s.i < len(w) || string(s.data[s.i:s.i+len(w)]) != w {
		return s.fail(w)
	}
	s.i += len(w)
	return nil
}

// str reads a string, which begins here.
func (s *scanner) str() ([]byte, error) {
	s.i++
	start := s.i
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.i = i + 1
			return s.data[start:i], nil
		case c == '\\':
			s.i = i
			return s.escaped(start)
		case c < ' ':
			s.i = i
			return nil, s.fail("no control character")
		}
	}
	s.i = len(s.data)
	return nil, s.fail("a closing quote")
}

// escaped reads the rest of a string that has an escape here and began at start.
func (s *scanner) escaped(start int) ([]byte, error) {
	from := len(s.text)
	s.text = append(s.text, s.data[start:s.i]...)
	for s.i < len(s.data) {
		c := s.data[s.i]
		switch {
		case c == '"':
			s.i++
			return s.text[from:len(s.text):len(s.text)], nil
		case c < ' ':
			return nil, s.fail("no control character")
		case c != '\\':
			s.text = append(s.text, c)
			s.i++
			continue
		}
		s.i++
		if s.i >= len(s.data) {
			break
		}
		switch c := s.data[s.i]; c {
		case '"', '\\', '/':
			s.text = append(s.text, c)
		case 'b':
			s.text = append(s.text, '\b')
		case 'f':
			s.text = append(s.text, '\f')
		case 'n':
			s.text = append(s.text, '\n')
		case 'r':
			s.text = append(s.text, '\r')
		case 't':
			s.text = append(s.text, '\t')
		case 'u':
			r, err := s.hex()
			if err != nil {
				return nil, err
			}
			s.text = utf8.AppendRune(s.text, r)
			continue
		default:
			return nil, s.fail("an escape")
		}
		s.i++
	}
	return nil, s.fail("a closing quote")
}

// hex reads a \u escape from its u on, and the second half of a surrogate pair.
func (s *scanner) hex() (rune, error) {
	r, ok := hex4(s.data[s.i:])
	if !ok {
		return 0, s.fail("four hexadecimal digits")
	}
	s.i += 5
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if s.i < len(s.data) && s.data[s.i] == '\\' {
		if low, ok := hex4(s.data[s.i+1:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				s.i += 6
				return pair, nil
			}
		}
	}
	return utf8.RuneError, nil
}

// hex4 reads u and four hexadecimal digits.
func hex4(b []byte) (rune, bool) {
	if len(b) < 5 || b[0] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[1:5] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number steps over a number.
func (s *scanner) number() error {
	if s.i < len(s.data) && s.data[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.data) && s.data[s.i] == '0' {
		s.i++
	} else if s.digits() == 0 {
		return s.fail("a value")
	}
	if s.i < len(s.data) && s.data[s.i] == '.' {
		s.i++
		if s.digits() == 0 {
			return s.fail("a digit")
		}
	}
	if s.i < len(s.data) && (s.data[s.i] == 'e' || s.data[s.i] == 'E') {
		s.i++
		if s.i < len(s.data) && (s.data[s.i] == '+' || s.data[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			return s.fail("a digit")
		}
	}
	return nil
}

func (s *scanner) digits() int {
	start := s.i
	for s.i < len(s.data) && '0' <= s.data[s.i] && s.data[s.i] <= '9' {
		s.i++
	}
	return s.i - start
}

// skip steps over a value of any kind, inside that many open arrays and objects.
func (s *scanner) skip(depth int) error {
	c := s.next()
	if (c == '[' || c == '{') && depth >= maxDepth {
		return fmt.Errorf("%w: nested deeper than %d", ErrKeys, maxDepth)
	}
	switch c {
	case '"':
		_, err := s.str()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	case '[':
		return s.list(func() error { return s.skip(depth + 1) })
	case '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	}
	return s.number()
}

// list reads an array, which begins here, and calls item at each value.
func (s *scanner) list(item func() error) error {
	s.i++
	if s.next() == ']' {
		s.i++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.i++
		case ']':
			s.i++
			return nil
		default:
			return s.fail(`"," or "]"`)
		}
	}
}

// object reads an object, which begins here, and calls member at each value.
func (s *scanner) object(member func(name []byte) error) error {
	s.i++
	if s.next() == '}' {
		s.i++
		return nil
	}
	for {
		if s.next() != '"' {
			return s.fail("a member name")
		}
		name, err := s.str()
		if err != nil {
			return err
		}
		if s.next() != ':' {
			return s.fail(`":"`)
		}
		s.i++
		if err := member(name); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.i++
		case '}':
			s.i++
			return nil
		default:
			return s.fail(`"," or "}"`)
		}
	}
}
