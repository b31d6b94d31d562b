// Package outbox names everything that lives in the database schema of icache,
// so that the code that creates the objects (migrations) and the code that
// reads them (listener) cannot disagree.
//
// The objects, for the default schema:
//
//	icache.outbox_0, icache.outbox_1  (xid xid8, relation oid, op "char", keys jsonb); written in turn, insert-only
//	icache.outbox                     view over both, for people
//	icache.active                     sequence; last_value 0 or 1: the outbox table that triggers write to
//	icache.overflow                   sequence; last_value 1 once triggers have stopped writing because of size_limit
//	icache.cursor                     one row at most: how far the agent has come
//	icache.tables                     one row per mapped relation: (relation regclass, name text, definition text)
//	icache.rules                      (name text primary key, mark text); the rules under which changes were applied last
//	icache.purges                     (agent, sink, key, since); what CDNs have not acknowledged yet
//	icache.meta                       (key text primary key, value text); 'version' is the version of these objects
//
// The two sequences are control words: last_value is not under MVCC, so a
// change is seen at once by every session, also in REPEATABLE READ.
package outbox

import (
	"hash/fnv"

	"github.com/jackc/pgx/v5"
)

// DefaultSchema is the schema used when none is configured.
const DefaultSchema = "icache"

// Operations as stored in the outbox column op.
const (
	Insert   = 'I'
	Update   = 'U'
	Delete   = 'D'
	Truncate = 'T'
)

// Names derives the names of the database objects from the schema name.
type Names struct{ schema string }

// In returns the names for a schema; an empty name means [DefaultSchema].
func In(schema string) Names {
	if schema == "" {
		schema = DefaultSchema
	}
	return Names{schema}
}

// Schema returns the bare, unquoted name of the schema.
func (n Names) Schema() string { return n.schema }

// Ident returns the quoted, schema-qualified form of an object name.
func (n Names) Ident(object string) string { return pgx.Identifier{n.schema, object}.Sanitize() }

// Outbox returns the quoted name of one of the two outbox tables, 0 or 1.
func (n Names) Outbox(i int) string {
	if i&1 == 0 {
		return n.Ident("outbox_0")
	}
	return n.Ident("outbox_1")
}

// Active returns the quoted name of the sequence that says which outbox table is written.
func (n Names) Active() string { return n.Ident("active") }

// Overflow returns the quoted name of the sequence that says that changes went unrecorded.
func (n Names) Overflow() string { return n.Ident("overflow") }

// Cursor returns the quoted name of the cursor table.
func (n Names) Cursor() string { return n.Ident("cursor") }

// Tables returns the quoted name of the table of mapped relations.
func (n Names) Tables() string { return n.Ident("tables") }

// Rules returns the quoted name of the table of the rules under which changes
// were applied last.
func (n Names) Rules() string { return n.Ident("rules") }

// Purges returns the quoted name of the table of what CDNs have not acknowledged yet.
func (n Names) Purges() string { return n.Ident("purges") }

// Meta returns the quoted name of the key-value table.
func (n Names) Meta() string { return n.Ident("meta") }

// Channel returns the NOTIFY channel of the doorbell, unquoted.
func (n Names) Channel() string {
	if len(n.schema) > 63 {
		return n.schema[:63]
	}
	return n.schema
}

// DoorbellKey is the advisory lock that the agent holds exclusively while it
// sleeps and that writers try to take shared.
func (n Names) DoorbellKey() int64 { return key("doorbell", n.schema) }

// LeaderKey is the advisory lock that the applying agent holds.
func (n Names) LeaderKey() int64 { return key("leader", n.schema) }

// MigrationKey is the advisory lock held while the objects are changed.
func (n Names) MigrationKey() int64 { return key("migration", n.schema) }

func key(purpose, schema string) int64 {
	h := fnv.New64a()
	h.Write([]byte("icache:" + purpose + ":" + schema))
	return int64(h.Sum64())
}
