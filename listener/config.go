package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/icache-go/icache-agent/internal/outbox"
)

// A Change is one outbox row: what one statement changed in one table.
type Change struct {
	// Relation is the oid of the table whose trigger fired; for a partition its own.
	Relation uint32
	// Table is the name under which the table is mapped, as "schema.table". It
	// survives renames. For a table that is not mapped (any longer) it is the
	// name in the catalog.
	Table string
	// Op is 'I', 'U', 'D' or 'T'.
	Op byte
	// Keys is the JSON that the trigger recorded; nil means unknown, that is
	// everything of that table. It is valid only until Apply returns.
	Keys []byte
}

// A Handler does something with the changes. Its methods are called from one
// goroutine, one at a time. An error from any of them is not fatal: it is
// repeated with a growing pause until it succeeds, and until then the cursor
// stays where it is.
type Handler interface {
	// Apply handles one change. It may buffer. After an error, and after an
	// error of Flush, all changes since the last successful Flush are applied
	// again.
	Apply(ctx context.Context, c Change) error
	// Flush returns nil only when everything applied so far has taken effect
	// for good. Only then does the cursor move past it.
	Flush(ctx context.Context) error
	// Reset is called when changes may have been missed: everything may have
	// changed. It returns nil only when that has taken effect for good.
	Reset(ctx context.Context, reason string) error
}

// A Ruler is a [Handler] that applies changes by rules, one for each table,
// which may be replaced while it runs, and may differ from those of the leader
// before. What was applied by other rules is behind the cursor and does not
// come again, so the Ruler is told which rules are not those of before.
//
// The marks of the rules in use are kept beside the cursor, in icache.rules. A
// role that may not write there leads all the same; then every rule counts as
// changed whenever it takes over.
type Ruler interface {
	Handler
	// Marks returns, for each table that has a rule, a text that differs
	// whenever the rule does. It is given what is installed: for each table that
	// has triggers the definition in icache.tables. It is called before the first
	// change is applied, after [Listener.Refresh], and when what is installed
	// has changed.
	Marks(installed map[string]string) map[string]string
	// Adopt follows Marks and makes those rules the ones that apply. It is given
	// the tables whose marks are not those by which changes were applied before,
	// and returns nil only when everything that these may have missed has taken
	// effect for good. It is repeated until it succeeds.
	Adopt(ctx context.Context, changed []string) error
}

// A Settler is a [Handler] for which changes do not have their whole effect at
// once: something is done again after a while. Until then the cursor that is
// saved stays behind, and the rows stay in the outbox, so that a successor
// applies these changes again, and does again what was not done.
type Settler interface {
	Handler
	// Unsettled returns when the earliest of the changes, or resets, was applied
	// that has not had its whole effect; the zero time if all have. It is called
	// several times a second, also while another method runs.
	Unsettled() time.Time
}

// Wake says how the listener learns of new changes.
type Wake string

const (
	// WakeAuto is WakeDoorbell, or WakePoll on a server that allows prepared
	// transactions: a transaction that has rung the bell cannot be prepared.
	WakeAuto Wake = "auto"
	// WakeDoorbell has writers NOTIFY while the listener sleeps.
	WakeDoorbell Wake = "doorbell"
	// WakePoll never has writers NOTIFY.
	WakePoll Wake = "poll"
)

// Config configures a [Listener]. URL and Handler are required.
type Config struct {
	// URL is a connection URL or a libpq keyword/value string. The connection
	// must reach the primary and must not go through a transaction pooler. With
	// several hosts, the primary among them is used.
	URL string

	// Schema holds the database objects. Defaults to "icache".
	Schema string

	// Handler receives the changes.
	Handler Handler

	// Wake defaults to WakeAuto.
	Wake Wake

	// Heartbeat is the longest time without a round trip to the server: while
	// nothing happens, the outbox is looked at this often, which finds dead
	// connections as well. It must not be below 10 ms. Defaults to 2 s.
	Heartbeat time.Duration

	// Canary is how often a canary is sent, if the Handler is one for
	// [Canaries]. Zero means never; it must not be below 10 ms. The role needs the
	// right to execute icache.record.
	Canary time.Duration

	// ShutdownTimeout bounds how long the batch in hand may take to finish
	// once the context of Run has ended. Defaults to 3 s.
	ShutdownTimeout time.Duration

	// Logger defaults to one that discards everything.
	Logger *slog.Logger
}

// Errors that only a person can do something about. Run returns them; all other
// troubles are retried.
var (
	// ErrSchema says that the database objects are missing, or of a version
	// that this program does not know.
	ErrSchema = errors.New("the database objects do not fit this program")
	// ErrPooler says that the connection changes its backend from statement to
	// statement, so that neither LISTEN nor session locks can work.
	ErrPooler = errors.New("the connection goes through a transaction pooler")
)

// tuning holds what tests change and users have no reason to.
type tuning struct {
	timeout     time.Duration // of a statement that should be fast; doubles while it is exceeded
	chunkWait   time.Duration // of a statement that reads a backlog
	leaderPoll  time.Duration // how often a standby asks for the lock
	save        time.Duration // how often the cursor is saved
	rules       time.Duration // how often a leader looks for a migration
	maintain    time.Duration // how often the sizes of the outbox tables are looked at
	chunkRows   int
	chunkBytes  int
	rotateBytes int64
	rotateAge   time.Duration
	quiet       time.Duration // an outbox that has been quiet for this long is emptied
	backoffMin  time.Duration
	backoffMax  time.Duration
	handlerMin  time.Duration // pause after the handler failed
	handlerMax  time.Duration
	idleSession time.Duration // the server ends a session that has been idle for so long; 0: five heartbeats
	sweep       bool          // heartbeats look at the outbox
	bell        bellTuning
}

func defaultTuning() tuning {
	return tuning{
		timeout:     3 * time.Second,
		chunkWait:   time.Minute,
		leaderPoll:  250 * time.Millisecond,
		save:        250 * time.Millisecond,
		rules:       5 * time.Second,
		maintain:    time.Second,
		chunkRows:   4000,
		chunkBytes:  4 << 20,
		rotateBytes: 64 << 20,
		rotateAge:   time.Minute,
		quiet:       time.Second,
		backoffMin:  100 * time.Millisecond,
		backoffMax:  5 * time.Second,
		handlerMin:  50 * time.Millisecond,
		handlerMax:  2 * time.Second,
		sweep:       true,
		bell:        defaultBellTuning(),
	}
}

const (
	defaultHeartbeat       = 2 * time.Second
	minHeartbeat           = 10 * time.Millisecond
	defaultShutdownTimeout = 3 * time.Second
	applicationName        = "icache-agent"
)

// New returns a listener. It does not connect.
func New(cfg Config) (*Listener, error) {
	if cfg.Handler == nil {
		return nil, errors.New("listener: Config.Handler must be set")
	}
	switch cfg.Wake {
	case "":
		cfg.Wake = WakeAuto
	case WakeAuto, WakeDoorbell, WakePoll:
	default:
		return nil, fmt.Errorf("listener: Config.Wake is %q, want auto, doorbell or poll", cfg.Wake)
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.Heartbeat < minHeartbeat {
		return nil, fmt.Errorf("listener: Config.Heartbeat is %s, must be at least %s", cfg.Heartbeat, minHeartbeat)
	}
	if cfg.Canary != 0 && cfg.Canary < minHeartbeat {
		return nil, fmt.Errorf("listener: Config.Canary is %s, must be at least %s, or 0 for none", cfg.Canary, minHeartbeat)
	}
	if cfg.ShutdownTimeout == 0 {
		cfg.ShutdownTimeout = defaultShutdownTimeout
	}
	if cfg.ShutdownTimeout < 0 {
		return nil, fmt.Errorf("listener: Config.ShutdownTimeout is %s, must be positive", cfg.ShutdownTimeout)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	conn, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	l := &Listener{cfg: cfg, conn: conn, names: outbox.In(cfg.Schema), log: cfg.Logger, tune: defaultTuning()}
	l.stats.init()
	return l, nil
}

// parseURL does not pass on the error of pgx, which can only make a best effort
// to keep the password out of it.
func parseURL(url string) (*pgx.ConnConfig, error) {
	if strings.TrimSpace(url) == "" {
		return nil, errors.New("listener: Config.URL is empty, want postgres://user@host:5432/database")
	}
	conn, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("listener: the Postgres URL cannot be parsed, want postgres://user@host:5432/database" +
			" (special characters in the password must be percent-encoded) or host=… user=… dbname=…")
	}
	if conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	conn.DialFunc = dial
	return conn, nil
}
