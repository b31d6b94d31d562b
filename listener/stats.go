package listener

import (
	"sync"
	"time"
)

// State is what a listener is doing.
type State string

// The states of a listener.
const (
	StateStopped    State = "stopped"     // Run is not running
	StateConnecting State = "connecting"  // no connection to Postgres
	StateStandby    State = "standby"     // another listener is the leader
	StateCatchingUp State = "catching up" // leader, reading a backlog
	StateAwake      State = "awake"       // leader, polling
	StateAsleep     State = "asleep"      // leader, waiting for the doorbell
	StateBlocked    State = "blocked"     // leader, the handler fails
)

// Stats is a copy of a listener's counters. Counters begin at zero with New.
type Stats struct {
	State  State     `json:"state"`
	Since  time.Time `json:"since"`            // of the state's last change between connecting, standby and leading
	Leader bool      `json:"leader"`           // holds the leader lock
	Wake   Wake      `json:"wake,omitempty"`   // how it wakes, as decided for this server
	Server int       `json:"server,omitempty"` // server_version_num

	Cursor      string    `json:"cursor,omitempty"`      // what has been dealt with, as a pg_snapshot
	CursorSaved time.Time `json:"cursor_saved,omitzero"` // when it was last saved
	LastPoll    time.Time `json:"last_poll,omitzero"`    // when the outbox was last read
	LastChange  time.Time `json:"last_change,omitzero"`  // when a change was last dealt with

	Polls         uint64 `json:"polls"`
	Bells         uint64 `json:"bells"` // notifications received
	Changes       uint64 `json:"changes"`
	Transactions  uint64 `json:"transactions"`
	Wakes         uint64 `json:"wakes"` // times the doorbell was taken off
	Sleeps        uint64 `json:"sleeps"`
	Connects      uint64 `json:"connects"`
	HandlerErrors uint64 `json:"handler_errors"`
	Resets        uint64 `json:"resets"`
	Rotations     uint64 `json:"rotations"` // outbox tables emptied

	OutboxBytes     int64     `json:"outbox_bytes"`                    // size of both tables when last looked at
	RotationBlocked time.Time `json:"rotation_blocked_since,omitzero"` // since when the full table cannot be emptied
	Overflow        bool      `json:"overflow"`                        // changes go unrecorded: the outbox has reached its limit
	ResetPending    bool      `json:"reset_pending"`                   // waiting for old transactions, then Reset once more

	NotifyQueue float64 `json:"notify_queue"` // used part of the server's queue of notifications, 0 to 1

	LastReset       time.Time `json:"last_reset,omitzero"`
	LastResetReason string    `json:"last_reset_reason,omitempty"`
	LastError       string    `json:"last_error,omitempty"` // of the connection or the handler
	LastErrorTime   time.Time `json:"last_error_time,omitzero"`

	Tables map[string]TableStats `json:"tables,omitempty"`
}

// TableStats counts the changes of one table.
type TableStats struct {
	Changes     uint64    `json:"changes"`
	Unknown     uint64    `json:"unknown"` // changes other than TRUNCATE with unknown keys: bulk statements, or a rule that no longer fits
	LastUnknown time.Time `json:"last_unknown,omitzero"`
}

type tableCounts struct{ TableStats }

// statsBox guards the Stats. The running listener is the only writer.
type statsBox struct {
	mu     sync.Mutex
	s      Stats
	cursor snapshot
	tables map[string]*tableCounts
}

func (b *statsBox) init() {
	b.tables = make(map[string]*tableCounts)
	b.s.State = StateStopped
}

func (b *statsBox) update(f func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.s)
}

func (b *statsBox) setCursor(c snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cursor = c
}

// table returns the counts of a table, to be changed under update.
func (b *statsBox) table(name string) *tableCounts {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.tables[name]
	if !ok {
		t = &tableCounts{}
		b.tables[name] = t
	}
	return t
}

// Stats returns what the listener is doing and has done. It may be called at any time.
func (l *Listener) Stats() Stats {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()
	s := l.stats.s
	if l.stats.cursor.xmax > 0 {
		s.Cursor = l.stats.cursor.String()
	}
	s.Tables = make(map[string]TableStats, len(l.stats.tables))
	for name, t := range l.stats.tables {
		s.Tables[name] = t.TableStats
	}
	return s
}

func (l *Listener) setState(state State) {
	l.stats.update(func(s *Stats) {
		if role(state) != role(s.State) {
			s.Since = time.Now()
		}
		s.State, s.Leader = state, role(state) == roleLeader
	})
}

const roleLeader = "leader"

func role(s State) string {
	switch s {
	case StateCatchingUp, StateAwake, StateAsleep, StateBlocked:
		return roleLeader
	}
	return string(s)
}
