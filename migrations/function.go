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

// tail returns the end of every function: it writes the row and rings the
// doorbell. It is not guarded: an outbox that cannot be written must fail the
// statement, because nobody would know of the change.
//
// pg_sequence_last_value is what the view pg_sequences calls. It is a tenth of
// the cost of selecting from the sequence, which would be a query.
func tail(n outbox.Names, sizeLimit int64, relation, op, keys string) string {
	return strings.NewReplacer(
		"@overflow", literal(n.Overflow())+"::regclass",
		"@active", literal(n.Active())+"::regclass",
		"@size0", literal(n.Outbox(0))+"::regclass",
		"@size1", literal(n.Outbox(1))+"::regclass",
		"@limit", fmt.Sprint(sizeLimit),
		"@outbox0", n.Outbox(0),
		"@outbox1", n.Outbox(1),
		"@values", relation+", "+op+", "+keys,
		"@key", fmt.Sprint(n.DoorbellKey()),
		"@channel", literal(n.Channel()),
	).Replace(`  IF pg_sequence_last_value(@overflow) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF random() < 0.02 AND pg_total_relation_size(@size0) + pg_total_relation_size(@size1) > @limit THEN
    PERFORM setval(@overflow, 1);
  ELSIF pg_sequence_last_value(@active) = 1 THEN
    INSERT INTO @outbox1 (relation, op, keys) VALUES (@values);
  ELSE
    INSERT INTO @outbox0 (relation, op, keys) VALUES (@values);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(@key) THEN
    PERFORM pg_notify(@channel, ''); -- the agent sleeps
  END IF;
`)
}

// commonFunctions returns the functions that serve all tables.
func commonFunctions(n outbox.Names, sizeLimit int64) []*function {
	return []*function{
		{
			name: recordFunction, args: `relation oid, op "char", keys jsonb`, returns: "void",
			settings: []string{searchPath},
			source:   "BEGIN\n" + tail(n, sizeLimit, "record.relation", "record.op", "record.keys") + "END\n",
		},
		{
			name: truncateFunction, returns: "trigger",
			settings: []string{searchPath},
			source:   "BEGIN\n" + tail(n, sizeLimit, "TG_RELID", "'T'", "NULL") + "  RETURN NULL;\nEND\n",
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
