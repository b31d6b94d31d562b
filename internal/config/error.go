package config

import (
	"strings"

	"github.com/icache-go/icache-agent/mapping"
)

// Error is a configuration that cannot be used. It lists everything that is
// wrong with it, in the order of the file.
type Error struct {
	Problems []*mapping.Error
}

// Error returns a line for each problem: "file:line:column: message (hint)".
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = strings.ReplaceAll(p.Error(), "\n", " ")
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}
