package mapping

import (
	"fmt"

	"github.com/icache-go/icache-agent/internal/suggest"
)

// Op is the kind of statement that changed a table, as the outbox stores it.
type Op byte

// The operations that a trigger can record.
const (
	Insert   Op = 'I'
	Update   Op = 'U'
	Delete   Op = 'D'
	Truncate Op = 'T'
)

// Ops returns every operation, in the order in which they are documented.
func Ops() []Op { return []Op{Insert, Update, Delete, Truncate} }

// String returns the word used in a config: insert, update, delete or truncate.
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	}
	return fmt.Sprintf("Op(%q)", byte(o))
}

// ParseOp is the inverse of [Op.String].
func ParseOp(s string) (Op, error) {
	var names []string
	for _, o := range Ops() {
		if o.String() == s {
			return o, nil
		}
		names = append(names, o.String())
	}
	hint := suggest.DidYouMean(s, names)
	if hint == "" {
		hint = "use insert, update, delete or truncate"
	}
	return 0, &Error{Msg: fmt.Sprintf("unknown operation %q", s), Hint: hint}
}

// bit returns the operation's place in a set of operations, 0 for none of ours.
func (o Op) bit() uint8 {
	switch o {
	case Insert:
		return 1
	case Update:
		return 2
	case Delete:
		return 4
	case Truncate:
		return 8
	}
	return 0
}
