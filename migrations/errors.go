package migrations

import (
	"fmt"
	"strings"
	"time"

	"github.com/icache-go/icache-agent/mapping"
)

// Problem is a rule that does not fit the database: where it stands in the
// config, what is wrong, and what to do.
type Problem struct {
	Pos   mapping.Position
	Table string // canonical name of the rule's table
	Msg   string
	Hint  string // may be empty
}

// Error returns "file:line:column: message (hint)".
func (p Problem) Error() string {
	return (&mapping.Error{Pos: p.Pos, Msg: p.Msg, Hint: p.Hint}).Error()
}

// CheckError says that rules do not fit the database. It holds every problem
// that was found, in the order of the config. Nothing was changed.
type CheckError struct{ Problems []Problem }

// Error returns one line for each problem.
func (e *CheckError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (e *CheckError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

// BusyError says that a table could not be locked within the lock timeout.
// Nothing was changed, and no statement of the application waited longer than
// the timeout.
type BusyError struct {
	Table    string        // empty if it was not a mapped table
	Timeout  time.Duration // how long was waited
	Blockers []Blocker     // who holds the table, as far as the role may see
	Err      error
}

// Blocker is a session that holds a lock on a table.
type Blocker struct {
	PID         int32
	Application string
	State       string        // as in pg_stat_activity, such as "idle in transaction"
	Since       time.Duration // age of its transaction
}

// Error names the table and who holds it.
func (e *BusyError) Error() string {
	what := "the objects of icache are"
	if e.Table != "" {
		what = e.Table + " is"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s busy: no lock within %s", what, e.Timeout)
	for i, h := range e.Blockers {
		sep := ", "
		if i == 0 {
			sep = "; held by "
		}
		fmt.Fprintf(&b, "%spid %d", sep, h.PID)
		if h.Application != "" {
			fmt.Fprintf(&b, " %s", h.Application)
		}
		if h.State != "" {
			fmt.Fprintf(&b, " (%s, transaction open for %s)", h.State, h.Since.Round(time.Second))
		}
	}
	b.WriteString(" (try again when long transactions have ended, or raise the lock timeout)")
	return b.String()
}

// Unwrap returns the error of Postgres.
func (e *BusyError) Unwrap() error { return e.Err }

// VersionError says that the objects in the database were made by a newer
// version of this program.
type VersionError struct{ Schema, Installed string }

// Error returns what to do.
func (e *VersionError) Error() string {
	return fmt.Sprintf("schema %s has version %s of the database objects, this program knows versions up to %d (upgrade icache-agent)",
		e.Schema, e.Installed, Version)
}
