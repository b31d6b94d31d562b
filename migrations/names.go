package migrations

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/mapping"
)

const (
	maxIdentifier = 63 // bytes that Postgres keeps of a name
	hashDigits    = 8  // of a name that had to be shortened
)

// ident quotes a name.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal quotes a text, whatever standard_conforming_strings says.
func literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// dollarQuote quotes a function body with a tag that does not occur in it.
func dollarQuote(body string) string {
	tag := "$icache$"
	for strings.Contains(body, tag) {
		tag = tag[:len(tag)-1] + "_$"
	}
	return tag + body + tag
}

// functionName returns the name of the trigger function of a table for an
// operation, the same for ever and different from that of any other table.
func functionName(t mapping.TableName, operation string) string {
	name := t.Schema + "_" + t.Name + "_" + operation
	// With an underscore in the schema nobody can tell where it ends, so
	// that a_b.c and a.b_c would share a name.
	if strings.Contains(t.Schema, "_") || len(name) > maxIdentifier {
		return shorten(name, digest(t.String()+" "+operation))
	}
	return name
}

// triggerName returns the name of a trigger; all tables have the same.
func triggerName(schema, operation string) string {
	name := schema + "_" + operation
	if len(name) > maxIdentifier {
		return shorten(name, digest(name))
	}
	return name
}

// shorten makes room for a hash at the end of a name.
func shorten(name, hash string) string {
	room := maxIdentifier - 1 - len(hash)
	if len(name) > room {
		for room > 0 && !utf8.RuneStart(name[room]) {
			room--
		}
		name = name[:room]
	}
	return name + "_" + hash
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:hashDigits]
}
