package explain

import (
	"fmt"
	"strings"
)

// Statement is one SQL statement of several.
type Statement struct {
	SQL  string // without the semicolon
	Line int    // where it begins, from 1

	words []string // the first bare words, in upper case
	stdio bool     // whether STDIN or STDOUT is among its words
}

// keptWords is how many words tell one kind of statement from another.
const keptWords = 4

// Refused returns why the statement cannot be explained, "" if it can.
func (s Statement) Refused() string {
	word := func(i int) string {
		if i < len(s.words) {
			return s.words[i]
		}
		return ""
	}
	switch word(0) {
	case "COMMIT", "END", "ABORT", "BEGIN", "START":
		return word(0) + " would begin or end a transaction, and explain runs everything in one that it rolls back"
	case "ROLLBACK":
		if word(1) == "TO" || word(2) == "TO" {
			return ""
		}
		return "ROLLBACK would end the transaction that explain rolls back itself"
	case "PREPARE":
		if word(1) == "TRANSACTION" {
			return "PREPARE TRANSACTION would take the changes out of the transaction that explain rolls back"
		}
	case "COPY":
		if s.stdio {
			return "COPY from or to the client has no data here; use INSERT, or COPY from a file of the server"
		}
	}
	if strings.HasPrefix(s.SQL, `\`) {
		return "commands of psql are not SQL"
	}
	return ""
}

// Split cuts SQL into statements at its semicolons, in the way of psql: not in
// quotes, comments, parentheses or the body of a function.
func Split(sql string) ([]Statement, error) {
	l := lexer{sql: sql, line: 1}
	var list []Statement
	for {
		s, more, err := l.statement()
		if err != nil {
			return nil, err
		}
		if s.SQL != "" {
			list = append(list, s)
		}
		if !more {
			return list, nil
		}
	}
}

type lexer struct {
	sql  string
	i    int
	line int // of seen
	seen int // up to where lines are counted
}

// lineAt returns the line of an offset, which never goes back.
func (l *lexer) lineAt(offset int) int {
	l.line += strings.Count(l.sql[l.seen:offset], "\n")
	l.seen = offset
	return l.line
}

// statement reads up to the next semicolon that ends one.
func (l *lexer) statement() (s Statement, more bool, err error) {
	start := -1 // of the first thing that is no blank or comment
	parens, blocks := 0, 0
	isRoutine := false
	for l.i < len(l.sql) {
		at := l.i
		c := l.sql[at]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			l.i++
			continue
		case strings.HasPrefix(l.sql[at:], "--"):
			l.skipLine()
			continue
		case strings.HasPrefix(l.sql[at:], "/*"):
			if err := l.skipComment(); err != nil {
				return s, false, err
			}
			continue
		case c == ';' && parens <= 0 && blocks == 0:
			l.i++
			if start >= 0 {
				s.SQL = strings.TrimSpace(l.sql[start:at])
			}
			return s, true, nil
		}
		if start < 0 {
			start = at
			s.Line = l.lineAt(at)
		}
		switch {
		case c == '(':
			parens++
			l.i++
		case c == ')':
			parens--
			l.i++
		case c == '\'':
			err = l.skipQuoted('\'', false)
		case c == '"':
			err = l.skipQuoted('"', false)
		case c == '$':
			err = l.skipDollar()
		case isWord(c):
			word := l.word()
			if len(word) == 1 && l.i < len(l.sql) && l.sql[l.i] == '\'' {
				err = l.skipQuoted('\'', word == "E")
				break
			}
			if len(s.words) < keptWords {
				s.words = append(s.words, word)
			}
			s.stdio = s.stdio || word == "STDIN" || word == "STDOUT"
			isRoutine = isRoutine || s.words[0] == "CREATE" && (word == "FUNCTION" || word == "PROCEDURE")
			switch {
			case !isRoutine:
			case word == "BEGIN", word == "CASE" && blocks > 0: // BEGIN ATOMIC
				blocks++
			case word == "END" && blocks > 0:
				blocks--
			}
		default:
			l.i++
		}
		if err != nil {
			return s, false, err
		}
	}
	if start >= 0 {
		s.SQL = strings.TrimSpace(l.sql[start:])
	}
	return s, false, nil
}

func isWord(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80
}

// word reads a name, a keyword or a number.
func (l *lexer) word() string {
	start := l.i
	for l.i < len(l.sql) && (isWord(l.sql[l.i]) || l.sql[l.i] == '$') {
		l.i++
	}
	return strings.ToUpper(l.sql[start:l.i])
}

func (l *lexer) skipLine() {
	if end := strings.IndexByte(l.sql[l.i:], '\n'); end >= 0 {
		l.i += end
	} else {
		l.i = len(l.sql)
	}
}

// skipComment steps over a comment, which may have others inside.
func (l *lexer) skipComment() error {
	start := l.i
	for depth := 0; l.i < len(l.sql); {
		switch {
		case strings.HasPrefix(l.sql[l.i:], "/*"):
			depth++
			l.i += 2
		case strings.HasPrefix(l.sql[l.i:], "*/"):
			depth--
			l.i += 2
			if depth == 0 {
				return nil
			}
		default:
			l.i++
		}
	}
	return l.unclosed(start, "comment")
}

// skipQuoted steps over a text in quotes; a doubled quote looks like two of them.
func (l *lexer) skipQuoted(quote byte, escapes bool) error {
	start := l.i
	for l.i++; l.i < len(l.sql); l.i++ {
		switch {
		case escapes && l.sql[l.i] == '\\':
			l.i++
		case l.sql[l.i] == quote:
			if escapes && l.i+1 < len(l.sql) && l.sql[l.i+1] == quote {
				l.i++ // the escapes go on behind it
				continue
			}
			l.i++
			return nil
		}
	}
	return l.unclosed(start, "quote")
}

// skipDollar steps over $$text$$ and $tag$text$tag$, or a lone dollar.
func (l *lexer) skipDollar() error {
	start := l.i
	end := l.i + 1
	for end < len(l.sql) && isWord(l.sql[end]) {
		end++
	}
	isTag := end < len(l.sql) && l.sql[end] == '$' && (l.sql[start+1] < '0' || '9' < l.sql[start+1])
	if !isTag {
		l.i++
		return nil
	}
	tag := l.sql[start : end+1]
	length := strings.Index(l.sql[end+1:], tag)
	if length < 0 {
		return l.unclosed(start, "quote "+tag)
	}
	l.i = end + 1 + length + len(tag)
	return nil
}

func (l *lexer) unclosed(start int, what string) error {
	return fmt.Errorf("line %d: the %s is not closed", 1+strings.Count(l.sql[:start], "\n"), what)
}
