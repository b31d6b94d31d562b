// Package doctor checks everything around an agent that an operator can get
// wrong: connections, poolers, rights, drift, the settings of both servers.
// It changes nothing but a token of its own in Redis, and sends the agent, if one
// runs, a row that belongs to no table.
package doctor

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
)

// Level says how bad a finding is.
type Level string

// The levels. Serious findings mean that changes are lost, late or not applied.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Serious Level = "serious"
)

// Finding is the result of one check.
type Finding struct {
	Check   string `json:"check"`
	Level   Level  `json:"level"`
	Found   string `json:"found"`             // what was found
	Meaning string `json:"meaning,omitempty"` // what follows from it
	Hint    string `json:"hint,omitempty"`    // what to do
}

// Config says what to examine.
type Config struct {
	Schema   string
	Rules    *mapping.Mapper
	TokenKey string // pattern with {token}
	Redis    redis.UniversalClient
	Sinks    []cdn.Sink

	// What the triggers are compared with, as in [migrations.Config].
	SizeLimit             int64
	AgentRole, WriterRole string
	EventTrigger          bool

	// Connect opens a connection to Postgres as the agent would.
	Connect func(ctx context.Context) (*pgx.Conn, error)
}

// patient collects findings.
type patient struct {
	cfg      Config
	names    outbox.Names
	findings []Finding
}

// Examine makes every check that can be made and returns the findings in the
// order of the checks. It fails only if ctx ends.
func Examine(ctx context.Context, cfg Config) ([]Finding, error) {
	p := &patient{cfg: cfg, names: outbox.In(cfg.Schema)}
	p.postgres(ctx)
	p.redis(ctx)
	p.cdn(ctx)
	return p.findings, ctx.Err()
}

// Worst returns the highest level among findings.
func Worst(findings []Finding) Level {
	rank := map[Level]int{OK: 0, Note: 1, Warning: 2, Serious: 3}
	worst := OK
	for _, f := range findings {
		if rank[f.Level] > rank[worst] {
			worst = f.Level
		}
	}
	return worst
}

func (p *patient) ok(check, format string, args ...any) {
	p.findings = append(p.findings, Finding{Check: check, Level: OK, Found: fmt.Sprintf(format, args...)})
}

func (p *patient) add(level Level, check, found, meaning, hint string) {
	p.findings = append(p.findings, Finding{Check: check, Level: level, Found: found, Meaning: meaning, Hint: hint})
}

// failed records a check that could not be made.
func (p *patient) failed(check string, err error) {
	p.add(Warning, check, "could not be checked: "+err.Error(), "", "")
}
