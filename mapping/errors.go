package mapping

import (
	"errors"
	"fmt"
	"strings"
)

// Position is a place in a config file. Line and column count from 1; the
// column counts characters. The zero value means that the place is not known.
type Position struct {
	File         string
	Line, Column int
}

// IsZero reports whether the position is unknown.
func (p Position) IsZero() bool { return p == Position{} }

// String returns file:line:column, without the parts that are not known.
func (p Position) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		if p.File == "" {
			b.WriteString("line ")
		} else {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	return b.String()
}

// Error is a mistake in a rule: where it is, what is wrong, and what to do.
type Error struct {
	Pos  Position
	Msg  string
	Hint string // may be empty
	Err  error  // the cause, such as a *SyntaxError; may be nil
}

// Error returns "file:line:column: message (hint)".
func (e *Error) Error() string {
	s := withHint(e.Msg, e.Hint)
	if !e.Pos.IsZero() {
		s = e.Pos.String() + ": " + s
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// SyntaxError is a mistake in a template or in a name.
type SyntaxError struct {
	Offset int // in bytes, from 0
	Msg    string
	Hint   string // may be empty
}

// Error returns "message at offset n (hint)".
func (e *SyntaxError) Error() string {
	return withHint(fmt.Sprintf("%s at offset %d", e.Msg, e.Offset), e.Hint)
}

func withHint(msg, hint string) string {
	if hint == "" {
		return msg
	}
	return msg + " (" + hint + ")"
}

// Errors from [Mapper.AppendTokens] and its relatives.
var (
	// ErrNoRule says that no rule names the table: the trigger is left from
	// an older config, or belongs to a newer one.
	ErrNoRule = errors.New("no rule for the table")
	// ErrKeys says that the keys are not what a trigger writes. Treat the
	// change as one whose keys are unknown.
	ErrKeys = errors.New("malformed keys")
)
