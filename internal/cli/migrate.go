package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

func (a *app) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create, remove and compare the triggers and the outbox",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.migrateSub("plan", "Print the SQL that 'up' would execute, and exit 0", a.migratePlan),
		a.migrateSub("up", "Install what the config asks for, in one transaction; does nothing if it is there", a.migrateUp),
		a.migrateSub("down", "Remove every object of icache from the database, in one transaction", a.migrateDown),
		a.migrateSub("status", "Compare what is installed with the config; exit 3 if they differ", a.migrateStatus),
		a.migrateExport(),
	)
	return cmd
}

func (a *app) migrateSub(name, short string, f func(context.Context, *migrations.Migrator) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.withMigrator(cmd, name != "down", f) },
	}
	config.RegisterFlags(cmd.Flags())
	if name != "down" {
		cmd.Flags().Bool(eventTriggerFlag, false, "event triggers too, which see DDL; to create them takes a superuser (postgres.event_trigger)")
		cmd.Flags().String(agentRoleFlag, "", "`role` that the agent connects as, to be granted what it needs (postgres.agent_role)")
	}
	cmd.Flags().String(writerRoleFlag, "", "`role` that owns the trigger functions, created if need be (postgres.writer_role)")
	a.jsonFlag(cmd)
	return cmd
}

// These have flags of their own, because only migrations need them.
const (
	agentRoleFlag  = "agent-role"
	writerRoleFlag = "writer-role"

	eventTriggerFlag = "event-trigger"
)

func takeMigrateFlags(cmd *cobra.Command, cfg *config.Config) {
	for name, role := range map[string]*string{agentRoleFlag: &cfg.Postgres.AgentRole, writerRoleFlag: &cfg.Postgres.WriterRole} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			*role = f.Value.String()
		}
	}
	if f := cmd.Flags().Lookup(eventTriggerFlag); f != nil && f.Changed {
		cfg.Postgres.EventTrigger = f.Value.String() == "true"
	}
}

// withMigrator runs f on the database and, if they matter, the rules of the config.
func (a *app) withMigrator(cmd *cobra.Command, withRules bool, f func(context.Context, *migrations.Migrator) error) error {
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	takeMigrateFlags(cmd, cfg)
	conn, err := connectPostgres(cmd.Context(), cfg, "icache-agent migrate")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(cmd.Context()))
	var rules *mapping.Mapper
	if withRules {
		if rules, err = a.mapper(cmd.Context(), cfg, conn); err != nil {
			return err
		}
	}
	m, err := migrator(conn, cfg, rules)
	if err != nil {
		return err
	}
	return f(cmd.Context(), m)
}

// migrator is that of the config.
func migrator(conn *pgx.Conn, cfg *config.Config, rules *mapping.Mapper) (*migrations.Migrator, error) {
	m, err := migrations.New(conn, migrations.Config{
		Rules: rules, Schema: cfg.Postgres.Schema, LockTimeout: cfg.Postgres.LockTimeout, SizeLimit: sizeLimit(cfg),
		AgentRole: cfg.Postgres.AgentRole, WriterRole: cfg.Postgres.WriterRole, EventTrigger: cfg.Postgres.EventTrigger,
	})
	if err != nil {
		return nil, usageErrorf("%w", err)
	}
	return m, nil
}

// sizeLimit translates "0MB means no limit" to a limit that is never reached.
func sizeLimit(cfg *config.Config) int64 {
	if cfg.Postgres.OutboxLimit == 0 {
		return math.MaxInt64
	}
	return int64(cfg.Postgres.OutboxLimit)
}

// connectPostgres opens the one connection that a command needs.
func connectPostgres(ctx context.Context, cfg *config.Config, name string) (*pgx.Conn, error) {
	if err := cfg.RequirePostgres(); err != nil {
		return nil, err
	}
	pc, err := pgx.ParseConfig(string(cfg.Postgres.URL))
	if err != nil {
		return nil, usageErrorf("postgres.url cannot be parsed (write postgres://user@host:5432/database, special characters in the password percent-encoded)")
	}
	applicationName(pc, name)
	if pc.ConnectTimeout == 0 {
		pc.ConnectTimeout = 10 * time.Second
	}
	conn, err := pgx.ConnectConfig(ctx, pc)
	if err != nil {
		hint := "check postgres.url, and that the server is up"
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(e.Code, "28") { // invalid authorization
			hint = "check the user and the password: in postgres.url or url_file, PGPASSWORD or ~/.pgpass"
		}
		return nil, fmt.Errorf("connect to postgres: %s (%s)", oneLine(err), hint)
	}
	return conn, nil
}

// applicationName says in pg_stat_activity which command is connected.
func applicationName(pc *pgx.ConnConfig, name string) {
	if _, set := pc.RuntimeParams["application_name"]; !set {
		pc.RuntimeParams["application_name"] = name
	}
}

// oneLine makes one line of an error that lists several attempts.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (a *app) migratePlan(ctx context.Context, m *migrations.Migrator) error {
	plan, err := m.Plan(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(planJSON(plan))
	}
	a.notes(plan.Notes)
	if plan.Empty() {
		fmt.Fprintln(a.stdout, "-- nothing to do")
		return nil
	}
	fmt.Fprint(a.stdout, plan.SQL())
	return nil
}

func (a *app) migrateUp(ctx context.Context, m *migrations.Migrator) error {
	plan, err := m.Up(ctx)
	return a.done(plan, err, "up to date, nothing to do")
}

func (a *app) migrateDown(ctx context.Context, m *migrations.Migrator) error {
	plan, err := m.Down(ctx)
	return a.done(plan, err, "nothing installed, nothing to do")
}

// done reports what was carried out.
func (a *app) done(plan *migrations.Plan, err error, nothing string) error {
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(planJSON(plan))
	}
	a.notes(plan.Notes)
	if plan.Empty() {
		fmt.Fprintln(a.stdout, nothing)
		return nil
	}
	for _, c := range plan.Changes {
		fmt.Fprintf(a.stdout, "%s\n", c.Object)
	}
	fmt.Fprintf(a.stdout, "done: %d changes in one transaction\n", len(plan.Changes))
	return nil
}

func (a *app) notes(notes []string) {
	for _, n := range notes {
		fmt.Fprintln(a.stderr, "icache-agent: note: "+n)
	}
}

type planOut struct {
	Changes []changeOut `json:"changes"`
	Notes   []string    `json:"notes,omitempty"`
}

type changeOut struct {
	State  migrations.State `json:"state"`
	Object string           `json:"object"`
	Table  string           `json:"table,omitempty"`
	SQL    string           `json:"sql,omitempty"`
}

func planJSON(p *migrations.Plan) planOut {
	out := planOut{Changes: []changeOut{}, Notes: p.Notes}
	for _, c := range p.Changes {
		out.Changes = append(out.Changes, changeOut{c.State, c.Object, c.Table, c.SQL})
	}
	return out
}

type statusOut struct {
	Schema    string      `json:"schema"`
	Installed bool        `json:"installed"`
	Version   string      `json:"version,omitempty"`
	Drift     bool        `json:"drift"`
	Objects   []changeOut `json:"objects,omitempty"`
	Tables    []tableOut  `json:"tables"`
	Notes     []string    `json:"notes,omitempty"`
}

type tableOut struct {
	Table       string           `json:"table"`
	State       migrations.State `json:"state"`
	Differences []changeOut      `json:"differences,omitempty"`
	Problems    []string         `json:"problems,omitempty"`
}

func (a *app) migrateStatus(ctx context.Context, m *migrations.Migrator) error {
	s, err := m.Status(ctx)
	if err != nil {
		return err
	}
	out := statusOut{Schema: s.Schema, Installed: s.Installed, Version: s.Version, Drift: s.Drift(), Tables: []tableOut{}, Notes: s.Notes}
	for _, d := range s.Objects {
		out.Objects = append(out.Objects, changeOut{State: d.State, Object: d.Object})
	}
	for _, t := range s.Tables {
		out.Tables = append(out.Tables, tableStatus(t))
	}
	if err := a.printStatus(out); err != nil {
		return err
	}
	if out.Drift {
		return &exitError{code: exitProblem}
	}
	return nil
}

func tableStatus(t migrations.TableStatus) tableOut {
	out := tableOut{Table: t.Table, State: t.State}
	for _, d := range t.Differences {
		out.Differences = append(out.Differences, changeOut{State: d.State, Object: d.Object})
	}
	for _, p := range t.Problems {
		out.Problems = append(out.Problems, p.Error())
	}
	return out
}

func (a *app) printStatus(s statusOut) error {
	if a.json {
		return a.printJSON(s)
	}
	a.notes(s.Notes)
	if !s.Installed {
		fmt.Fprintf(a.stdout, "schema %s: not installed; run 'icache-agent migrate up'\n", s.Schema)
	} else {
		fmt.Fprintf(a.stdout, "schema %s: version %s\n", s.Schema, s.Version)
	}
	for _, d := range s.Objects {
		fmt.Fprintf(a.stdout, "  %-9s %s\n", d.State, d.Object)
	}
	for _, t := range s.Tables {
		fmt.Fprintf(a.stdout, "%-9s %s\n", t.State, t.Table)
		for _, d := range t.Differences {
			fmt.Fprintf(a.stdout, "  %-9s %s\n", d.State, d.Object)
		}
		for _, p := range t.Problems {
			fmt.Fprintf(a.stdout, "  %s\n", p)
		}
	}
	if s.Drift && s.Installed {
		fmt.Fprintln(a.stdout, "the database differs from the config; 'icache-agent migrate plan' shows the SQL, 'migrate up' applies it")
	}
	return nil
}

// isConfigError reports whether the user has to mend the config: exit code 2.
func isConfigError(err error) bool {
	var c *config.Error
	var m *mapping.Error
	var k *migrations.CheckError
	return errors.As(err, &c) || errors.As(err, &m) || errors.As(err, &k)
}
