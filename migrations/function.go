package migrations

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// Functions that do not depend on the rules.
const (
	recordFunction   = "record"
	truncateFunction = "record_truncate"
)

// DefaultSizeLimit is the size of the outbox at which triggers stop writing.
const DefaultSizeLimit = 256 << 20

// searchPath leaves nothing to resolve outside pg_catalog: what a function of
// a powerful owner calls must not depend on who writes.
const searchPath = "search_path=pg_catalog, pg_temp"

// function is a function as it should be.
type function struct {
	name     string
	args     string
	returns  string
	table    string   // canonical name of the table it serves; empty if it serves all
	settings []string // as in pg_proc.proconfig
	source   string   // without the header
}

// header marks a function as generated, and holds a hash of the rest, which
// tells a function that was edited by hand from one that is out of date.
const header = "\n-- icache %s: generated%s; change the rules, not this function\n"

const (
	headerPrefix = "\n-- icache "
	headerDigits = 16
)

func (f *function) body() string {
	of := ""
	if f.table != "" {
		of = " for " + strings.ReplaceAll(strings.ReplaceAll(f.table, "\n", " "), "\r", " ")
	}
	return fmt.Sprintf(header, bodyHash(f.source, f.settings), of) + f.source
}

func bodyHash(source string, settings []string) string {
	sum := sha256.Sum256([]byte(source + "\x00" + strings.Join(settings, "\x00")))
	return hex.EncodeToString(sum[:])[:headerDigits]
}

// isGenerated reports whether a function body was made by this package, and
// whether it is still as it was made.
func isGenerated(body string, settings []string) (generated, intact bool) {
	rest, ok := strings.CutPrefix(body, headerPrefix)
	if !ok || len(rest) < headerDigits {
		return false, false
	}
	_, source, ok := strings.Cut(rest, "\n")
	return ok, rest[:headerDigits] == bodyHash(source, settings)
}

// create returns the statement that makes the function or replaces it. A new
// function may be executed by PUBLIC until the REVOKE, in the same transaction.
func (f *function) create(n outbox.Names) string {
	var set strings.Builder
	for _, s := range f.settings {
		name, value, _ := strings.Cut(s, "=")
		if name == "search_path" {
			fmt.Fprintf(&set, "SET search_path = %s\n", value)
		} else {
			fmt.Fprintf(&set, "SET %s = %s\n", ident(name), literal(value))
		}
	}
	return fmt.Sprintf("CREATE OR REPLACE FUNCTION %s(%s) RETURNS %s\nLANGUAGE plpgsql SECURITY DEFINER\n%sAS %s;",
		n.Ident(f.name), f.args, f.returns, set.String(), dollarQuote(f.body()))
}

func (f *function) signature(n outbox.Names) string {
	return n.Ident(f.name) + "(" + f.argTypes() + ")"
}

func (f *function) argTypes() string {
	if f.name == recordFunction {
		return `oid, "char", jsonb`
	}
	return ""
}

// What the variable icache_to of trigger functions says, beside 0 and 1, the
// tables of the outbox.
const (
	toNone   = -1 // nothing changed, and nothing is to be done
	toRecord = -2 // more is to be done than to insert a row: record() does it
)

// destination returns the last cases of the expression for icache_to. It takes
// the lock of the doorbell, which says whether the agent sleeps, shared; until
// the end of the transaction, so it makes no difference that the row is written
// after that. One call in fifty is left to record(), which may look at the size
// of the outbox.
//
// In each transaction Postgres sets up every expression that it comes by anew,
// and looks up all functions in it, so what is needed for every row is in this
// one, which is part of the query that finds the keys. pg_sequence_last_value is
// what the view pg_sequences calls. It is a tenth of the cost of selecting from
// the sequence, which would be a query.
func destination(n outbox.Names) string {
	return fmt.Sprintf(`WHEN pg_sequence_last_value(%s::regclass) = 1 OR random() < 0.02 OR NOT pg_try_advisory_xact_lock_shared(%d) THEN %d
      ELSE pg_sequence_last_value(%s::regclass) END`, literal(n.Overflow()), n.DoorbellKey(), toRecord, literal(n.Active()))
}

// tail returns the end of trigger functions, for when the keys and icache_to
// have been found. It is not guarded: an outbox that cannot be written must fail
// the statement, because nobody would know of the change. What stands in the
// last branch, before record() is called, is for those who do not know the keys yet.
func tail(n outbox.Names, relation, op, keys, otherwise string) string {
	return strings.NewReplacer(
		"@outbox0", n.Outbox(0),
		"@outbox1", n.Outbox(1),
		"@values", relation+", "+op+", "+keys,
		"@record", n.Ident(recordFunction),
		"@otherwise", otherwise,
	).Replace(`  IF icache_to = 0 THEN
    INSERT INTO @outbox0 (relation, op, keys) VALUES (@values);
  ELSIF icache_to = 1 THEN
    INSERT INTO @outbox1 (relation, op, keys) VALUES (@values);
  ELSE
@otherwise    PERFORM @record(@values);
  END IF;
  RETURN NULL;
`)
}

// recordBody returns the body of record(), which does all that may have to be
// done for a change: it writes the row, unless the outbox is full, and rings. It
// does not always look whether it is full: that takes dozens of system calls,
// more time than all the rest. And it takes locks on both tables, of which the
// one that is not in use may be locked for a moment by a rotation.
func recordBody(n outbox.Names, sizeLimit int64) string {
	return strings.NewReplacer(
		"@overflow", literal(n.Overflow())+"::regclass",
		"@active", literal(n.Active())+"::regclass",
		"@size0", literal(n.Outbox(0))+"::regclass",
		"@size1", literal(n.Outbox(1))+"::regclass",
		"@limit", fmt.Sprint(sizeLimit),
		"@outbox0", n.Outbox(0),
		"@outbox1", n.Outbox(1),
		"@key", fmt.Sprint(n.DoorbellKey()),
		"@channel", literal(n.Channel()),
	).Replace(`DECLARE
  icache_full boolean := false;
BEGIN
  IF random() < 0.1 THEN
    BEGIN
      icache_full := pg_total_relation_size(@size0) + pg_total_relation_size(@size1) > @limit;
    EXCEPTION WHEN OTHERS THEN
      NULL; -- a table is being emptied, and lock_timeout is short: never fail the statement for that
    END;
  END IF;
  IF pg_sequence_last_value(@overflow) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF icache_full THEN
    PERFORM setval(@overflow, 1);
  ELSIF pg_sequence_last_value(@active) = 1 THEN
    INSERT INTO @outbox1 (relation, op, keys) VALUES (record.relation, record.op, record.keys);
  ELSE
    INSERT INTO @outbox0 (relation, op, keys) VALUES (record.relation, record.op, record.keys);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(@key) THEN
    PERFORM pg_notify(@channel, ''); -- the agent sleeps
  END IF;
END
`)
}

// commonFunctions returns the functions that serve all tables.
func commonFunctions(n outbox.Names, sizeLimit int64) []*function {
	return []*function{
		{
			name: recordFunction, args: `relation oid, op "char", keys jsonb`, returns: "void",
			settings: []string{searchPath},
			source:   recordBody(n, sizeLimit),
		},
		{
			name: truncateFunction, returns: "trigger",
			settings: []string{searchPath},
			source:   fmt.Sprintf("BEGIN\n  PERFORM %s(TG_RELID, 'T', NULL);\n  RETURN NULL;\nEND\n", n.Ident(recordFunction)),
		},
	}
}

// settingsFor returns the settings of a function whose result depends on the
// text form of columns.
func settingsFor(columns []*column) []string {
	list := append([]string{searchPath}, pins(columns)...)
	slices.Sort(list)
	return list
}
