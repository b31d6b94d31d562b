package agent

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/listener"
)

// Status is what /status answers. Fields are added over time; readers should
// ignore those they do not know.
type Status struct {
	Version  string         `json:"version"`
	Started  time.Time      `json:"started"`
	Ready    bool           `json:"ready"`
	NotReady string         `json:"not_ready,omitempty"` // why not
	Postgres listener.Stats `json:"postgres"`
	Redis    RedisStatus    `json:"redis"`
	Guard    GuardStatus    `json:"guard"`
	CDN      []cdn.Status   `json:"cdn,omitempty"`
	Config   ConfigStatus   `json:"config"`
	Tables   []TableStatus  `json:"tables"`
	Recent   []Event        `json:"recent"`
}

// TableStatus is one rule of the config.
type TableStatus struct {
	Table  string   `json:"table"`
	Tokens []string `json:"tokens"`
	// MigrationDue says what the installed triggers lack for the rule. Only the
	// agent that applies changes knows.
	MigrationDue string `json:"migration_due,omitempty"`
}

// Status returns the present state. It may be called at any time.
func (a *Agent) Status() Status {
	s := Status{
		Version: a.cfg.Version, Started: a.started,
		Postgres: a.listener.Stats(), Redis: a.watch.status(), Guard: a.guard.report(), CDN: a.purger.Status(), Config: a.reload.status(), Recent: a.feed.last(),
	}
	for _, r := range a.mapper.Load().Rules() {
		name := r.Rule.Table.String()
		s.Tables = append(s.Tables, TableStatus{Table: name, Tokens: r.Rule.Tokens, MigrationDue: a.applier.installed.migrationDue(name)})
	}
	s.Ready, s.NotReady = ready(s)
	return s
}

// ready says whether changes are applied, or would be if the leader stopped, and if not why.
func ready(s Status) (bool, string) {
	switch {
	case s.Postgres.State == listener.StateStopped, s.Postgres.State == listener.StateConnecting:
		if s.Postgres.LastError != "" {
			return false, "no connection to postgres: " + s.Postgres.LastError
		}
		return false, "no connection to postgres yet"
	case !s.Redis.Up:
		if s.Redis.Error != "" {
			return false, "redis does not answer: " + s.Redis.Error
		}
		return false, "redis has not answered yet"
	case s.Postgres.State == listener.StateBlocked:
		return false, "changes cannot be applied: " + s.Postgres.LastError
	case s.Postgres.Leader && s.Postgres.LastPoll.IsZero():
		return false, "the outbox has not been read yet"
	}
	return true, ""
}

// WriteText writes the status for a terminal.
func (s Status) WriteText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(k, format string, args ...any) { fmt.Fprintf(tw, k+"\t"+format+"\n", args...) }
	state := "ready"
	if !s.Ready {
		state = "NOT READY: " + s.NotReady
	}
	line("agent", "%s, version %s, up %s", state, s.Version, time.Since(s.Started).Round(time.Second))
	line("postgres", "%s for %s, wake %s", s.Postgres.State, time.Since(s.Postgres.Since).Round(time.Second), s.Postgres.Wake)
	if s.Redis.Up {
		line("redis", "up for %s, version %s", time.Since(s.Redis.Since).Round(time.Second), s.Redis.Version)
	} else {
		line("redis", "DOWN: %s", s.Redis.Error)
	}
	if s.Guard.Lease != "0s" {
		line("guard", "lease of %s, renewed %d times by this agent, last %s", s.Guard.Lease, s.Guard.Renewals, ago(s.Guard.Renewed))
	}
	for _, c := range s.CDN {
		line("cdn", "%s: %s", c.Name, describeCDN(c))
	}
	line("changes", "%d applied in %d transactions, last %s", s.Postgres.Changes, s.Postgres.Transactions, ago(s.Postgres.LastChange))
	line("outbox", "%d bytes, overflow %t", s.Postgres.OutboxBytes, s.Postgres.Overflow)
	line("resets", "%d%s", s.Postgres.Resets, reasonSuffix(s.Postgres.LastResetReason))
	line("config", "%s", s.Config)
	for _, t := range s.Tables {
		n := s.Postgres.Tables[t.Table]
		line("table", "%s: %d changes, %d with unknown keys → %s", t.Table, n.Changes, n.Unknown, strings.Join(t.Tokens, " "))
		if t.MigrationDue != "" {
			line("", "a migration is due: %s", t.MigrationDue)
		}
	}
	return tw.Flush()
}

// describeCDN says in one line how purges go.
func describeCDN(c cdn.Status) string {
	text := fmt.Sprintf("%s, %d keys purged, last %s, %d pending", c.Cache, c.Purged, ago(c.LastSuccess), c.Pending)
	if c.Error != "" {
		text += fmt.Sprintf(", FAILING, the oldest for %s: %s", time.Since(c.Oldest).Round(time.Second), c.Error)
	}
	return text
}

func reasonSuffix(reason string) string {
	if reason == "" {
		return ""
	}
	return ", last: " + reason
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}
