package migrations

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
)

// DefaultLockTimeout is how long Up and Down wait for a lock.
const DefaultLockTimeout = 2 * time.Second

// Config says what to install. The zero value installs the outbox without any
// trigger.
type Config struct {
	// Rules are the tables to watch and what to record of them. May be nil.
	Rules *mapping.Mapper

	// Schema that holds the objects. Defaults to "icache".
	Schema string

	// LockTimeout is how long to wait for the lock on a table. For as long,
	// statements of the application that change the table may have to wait
	// too, so keep it short. Defaults to 2 seconds.
	LockTimeout time.Duration

	// SizeLimit is the size of the outbox in bytes at which triggers stop
	// writing to it; the agent then outdates everything when it is back. The
	// size is looked at about every fiftieth statement. Defaults to 256 MiB.
	SizeLimit int64

	// WriterRole owns the trigger functions. It is created if the connected
	// role may do that, and may do nothing but write the outbox. Defaults to
	// the name of the schema with "_writer".
	WriterRole string

	// EventTrigger asks for event triggers as well, which see what triggers on
	// tables cannot: partitions attached and detached, tables dropped, values
	// rewritten by ALTER TABLE. Only a superuser can create them.
	EventTrigger bool

	// AgentRole, if set, is granted what the agent needs, except for SELECT on
	// tables that it looks foreign keys up in. It must exist. Without it the
	// agent has to connect as the owner of the objects or as a superuser.
	AgentRole string
}

// Migrator compares a database with the rules and brings the two together. It
// uses one connection and is not safe for concurrent use.
type Migrator struct {
	conn  *pgx.Conn
	cfg   Config
	names outbox.Names
	rules []*mapping.CompiledRule // sorted by table
}

// New returns a Migrator that works over the connection, which must not be in
// a transaction. It does no I/O.
func New(conn *pgx.Conn, cfg Config) (*Migrator, error) {
	if conn == nil {
		return nil, errors.New("migrations need a connection")
	}
	m := &Migrator{conn: conn, cfg: cfg}
	if cfg.Rules != nil {
		m.rules = cfg.Rules.Rules()
	}
	slices.SortFunc(m.rules, func(a, b *mapping.CompiledRule) int {
		return strings.Compare(a.Rule.Table.String(), b.Rule.Table.String())
	})
	if err := m.cfg.fill(); err != nil {
		return nil, err
	}
	m.names = outbox.In(m.cfg.Schema)
	return m, nil
}

func (c *Config) fill() error {
	if c.Schema == "" {
		c.Schema = outbox.DefaultSchema
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = DefaultLockTimeout
	}
	if c.SizeLimit == 0 {
		c.SizeLimit = DefaultSizeLimit
	}
	if c.WriterRole == "" {
		const suffix = "_writer"
		c.WriterRole = c.Schema + suffix
		if len(c.WriterRole) > maxIdentifier {
			c.WriterRole = shorten(c.WriterRole, digest(c.Schema))
		}
	}
	for _, name := range []string{c.Schema, c.WriterRole, c.AgentRole} {
		if len(name) > maxIdentifier || strings.ContainsRune(name, 0) {
			return fmt.Errorf("%q is no name for Postgres: names have up to %d bytes", name, maxIdentifier)
		}
	}
	if strings.HasPrefix(c.Schema, "pg_") {
		return fmt.Errorf("schema %q: names that begin with pg_ belong to Postgres", c.Schema)
	}
	if c.LockTimeout < time.Millisecond {
		return fmt.Errorf("lock timeout %s: use 1ms or more", c.LockTimeout)
	}
	if c.SizeLimit < 0 {
		return fmt.Errorf("size limit %d: use a positive number of bytes", c.SizeLimit)
	}
	return nil
}
