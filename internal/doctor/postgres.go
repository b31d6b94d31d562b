package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

const oldestPostgres = 15

func (p *patient) postgres(ctx context.Context) {
	conn, err := p.cfg.Connect(ctx)
	if err != nil {
		p.add(Serious, "postgres", err.Error(), "no change can be read", "check postgres.url, and that the server is up")
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version int
	var role, database, release string
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_user, current_database()`).
		Scan(&version, &release, &role, &database); err != nil {
		p.failed("postgres", err)
		return
	}
	p.ok("postgres", "connected to database %s as %s", database, role)
	if version/10000 < oldestPostgres {
		p.add(Serious, "postgres version", release, "the triggers need Postgres 15", "upgrade the server")
	} else {
		p.ok("postgres version", "%s", release)
	}
	p.primary(ctx, conn)
	p.pooler(ctx, conn)
	p.settings(ctx, conn)
	installed := p.drift(ctx, conn)
	if installed {
		p.rights(ctx, conn, role)
		p.outbox(ctx, conn)
		p.agent(ctx, conn)
	}
	p.sessions(ctx, conn)
}

func (p *patient) primary(ctx context.Context, conn *pgx.Conn) {
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		p.failed("primary", err)
		return
	}
	if standby {
		p.add(Serious, "primary", "the server is a standby", "LISTEN does not work there, so the agent waits until it is promoted",
			"point postgres.url at the primary, or list all hosts: the agent picks the primary")
		return
	}
	p.ok("primary", "the server accepts writes")
}

// pooler opens a second connection while the first one is idle: behind a pooler
// that shares server connections between transactions both are the same backend.
func (p *patient) pooler(ctx context.Context, conn *pgx.Conn) {
	const check = "pooler"
	backend := func(c *pgx.Conn) (pid int, err error) {
		return pid, c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	}
	var pids []int
	for range 3 {
		other, err := p.cfg.Connect(ctx)
		if err != nil {
			p.failed(check, err)
			return
		}
		defer other.Close(context.WithoutCancel(ctx))
		for _, c := range []*pgx.Conn{conn, other} {
			pid, err := backend(c)
			if err != nil {
				p.failed(check, err)
				return
			}
			pids = append(pids, pid)
		}
	}
	// pids: first, second, first, third, first, fourth.
	if pids[0] != pids[2] || pids[2] != pids[4] || pids[1] == pids[0] || pids[3] == pids[0] || pids[5] == pids[0] || pids[1] == pids[3] {
		p.add(Serious, check, "several connections share a backend: there is a transaction pooler in between",
			"LISTEN and the leader's lock do not survive it; the agent refuses to run",
			"connect the agent to Postgres directly, or through a pool in session mode; your application may stay behind the pooler")
		return
	}
	p.ok(check, "each connection has a backend of its own")
}

func (p *patient) settings(ctx context.Context, conn *pgx.Conn) {
	get := func(name string) string {
		var v string
		if err := conn.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&v); err != nil {
			p.failed(name, err)
		}
		return v
	}
	if n := get("max_prepared_transactions"); n != "0" && n != "" {
		p.add(Note, "wake-up", "max_prepared_transactions is "+n,
			"a transaction that has notified cannot be prepared, so with wake: auto the agent polls", "set postgres.wake to doorbell if nothing uses PREPARE TRANSACTION")
	} else {
		p.ok("wake-up", "writers can ring the doorbell")
	}
	if s := get("synchronous_commit"); s == "off" {
		p.add(Note, "synchronous_commit", "off", "commits may be undone by a crash of the server; the agent outdates everything after one", "")
	}
	if s := get("session_replication_role"); s == "replica" {
		p.add(Warning, "session_replication_role", "replica", "triggers do not fire in sessions like this one", "bump by hand after such loads: icache-agent bump --table or --all")
	}
	if v := get("temp_file_limit"); v != "-1" && v != "" {
		p.add(Warning, "temp_file_limit", v, "the triggers keep the rows of a statement until it ends, beyond work_mem in temporary files: "+
			"a statement that changes more than fits fails, where it would not without triggers",
			"raise the limit for the roles that write in bulk, or set always: true for such tables: row-level triggers need no files")
	}
	var usage float64
	if err := conn.QueryRow(ctx, "SELECT pg_notification_queue_usage()").Scan(&usage); err != nil {
		p.failed("notification queue", err)
	} else if usage > 0.5 {
		p.add(Serious, "notification queue", fmt.Sprintf("%.0f %% full", 100*usage),
			"when it is full, every transaction that notifies fails, whoever it notifies", "end the session that listens inside a long transaction (pg_stat_activity)")
	} else {
		p.ok("notification queue", "%.0f %% full", 100*usage)
	}
}

// drift reports whether the objects are there at all.
func (p *patient) drift(ctx context.Context, conn *pgx.Conn) bool {
	const check = "triggers"
	m, err := migrations.New(conn, migrations.Config{
		Rules: p.cfg.Rules, Schema: p.cfg.Schema, SizeLimit: p.cfg.SizeLimit, AgentRole: p.cfg.AgentRole, WriterRole: p.cfg.WriterRole,
		EventTrigger: p.cfg.EventTrigger,
	})
	if err != nil {
		p.failed(check, err)
		return false
	}
	s, err := m.Status(ctx)
	if err != nil {
		// The agent's role may lack the right to compare; its own rights can
		// be looked at all the same if the schema is there.
		p.failed(check, err)
		var there bool
		return conn.QueryRow(ctx, "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL", p.names.Schema()).Scan(&there) == nil && there
	}
	if !s.Installed {
		p.add(Serious, check, "schema "+s.Schema+" is not installed", "no change is recorded", "run icache-agent migrate up")
		return false
	}
	var wrong []string
	level := Warning
	for _, t := range s.Tables {
		switch t.State {
		case migrations.StateOK:
			continue
		case migrations.StateMissing, migrations.StateDisabled, migrations.StateBroken:
			level = Serious
		}
		wrong = append(wrong, fmt.Sprintf("%s: %s", t.Table, t.State))
	}
	for _, o := range s.Objects {
		wrong = append(wrong, fmt.Sprintf("%s: %s", o.Object, o.State))
	}
	if len(wrong) > 0 {
		p.add(level, check, strings.Join(wrong, "; "), "changes may go unrecorded, or be recorded without their keys",
			"see icache-agent migrate status; icache-agent migrate up mends it")
	} else {
		p.ok(check, "%d tables, as the config says", len(s.Tables))
	}
	return true
}

// rights are those that the agent's role needs: to drain, to keep what the
// cursor belongs to, to send canaries, and what its rules ask for.
func (p *patient) rights(ctx context.Context, conn *pgx.Conn, role string) {
	const check = "rights"
	n := p.names
	var missing []string
	rows, err := conn.Query(ctx, `
		SELECT 'USAGE ON SCHEMA ' || quote_ident($1) WHERE NOT has_schema_privilege($1, 'USAGE')
		UNION ALL SELECT p || ' ON ' || o FROM unnest($2::text[]) o, unnest('{SELECT,TRUNCATE}'::text[]) p WHERE NOT has_table_privilege(o, p)
		UNION ALL SELECT 'SELECT ON ' || o FROM unnest($3::text[]) o WHERE NOT has_table_privilege(o, 'SELECT')
		UNION ALL SELECT p || ' ON ' || o FROM unnest($4::text[]) o, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p WHERE NOT has_table_privilege(to_regclass(o), p)
		UNION ALL SELECT p || ' ON SEQUENCE ' || o FROM unnest($5::text[]) o, unnest('{SELECT,UPDATE}'::text[]) p WHERE NOT has_sequence_privilege(o, p)
		UNION ALL SELECT 'EXECUTE ON FUNCTION ' || $6 WHERE NOT has_function_privilege(to_regprocedure($6), 'EXECUTE')
		UNION ALL SELECT 'SELECT ON ' || o FROM unnest($7::text[]) o WHERE NOT has_table_privilege(to_regclass(o), 'SELECT')
		UNION ALL SELECT 'membership in pg_read_all_stats' WHERE $8 AND NOT pg_has_role('pg_read_all_stats', 'USAGE')`,
		n.Schema(), []string{n.Outbox(0), n.Outbox(1)}, []string{n.Ident("outbox"), n.Tables(), n.Meta()},
		[]string{n.Cursor(), n.Rules(), n.Purges()}, []string{n.Active(), n.Overflow()}, n.Ident("record")+`(oid, "char", jsonb)`, p.lookups(), p.settlesReplicas())
	if err == nil {
		missing, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	switch {
	case err != nil:
		p.failed(check, err)
	case len(missing) > 0:
		p.add(Serious, check, "missing: "+strings.Join(missing, ", "), "the agent cannot read or empty the outbox, or cannot do what the rules ask for",
			fmt.Sprintf("icache-agent migrate up --agent-role %s grants what is of icache; GRANT the rest to %[1]s", pgx.Identifier{role}.Sanitize()))
	default:
		p.ok(check, "role %s may do all that the agent has to", role)
	}
}

// lookups are the tables that foreign keys are followed to.
func (p *patient) lookups() []string {
	tables := []string{}
	if p.cfg.Rules == nil {
		return tables
	}
	for _, r := range p.cfg.Rules.Rules() {
		for _, t := range r.Templates {
			for _, l := range t.Lookups() {
				if name := l.Ref.SQL(); !slices.Contains(tables, name) {
					tables = append(tables, name)
				}
			}
		}
	}
	return tables
}

func (p *patient) settlesReplicas() bool {
	return p.cfg.Rules != nil && slices.ContainsFunc(p.cfg.Rules.Rules(), func(r *mapping.CompiledRule) bool { return r.Rule.SettleReplicas })
}

func (p *patient) outbox(ctx context.Context, conn *pgx.Conn) {
	var size, overflow int64
	if err := conn.QueryRow(ctx, fmt.Sprintf("SELECT pg_total_relation_size($1::regclass) + pg_total_relation_size($2::regclass), (SELECT last_value FROM %s)", p.names.Overflow()),
		p.names.Outbox(0), p.names.Outbox(1)).Scan(&size, &overflow); err != nil {
		p.failed("outbox", err)
		return
	}
	switch {
	case overflow != 0:
		p.add(Serious, "outbox", fmt.Sprintf("full, %d MiB: changes go unrecorded", size>>20), "the agent will outdate everything when it is back", "start the agent")
	case size > 64<<20:
		p.add(Warning, "outbox", fmt.Sprintf("%d MiB", size>>20), "the agent is away, far behind, or cannot empty it because of a long transaction",
			"see icache-agent status and pg_stat_activity")
	default:
		p.ok("outbox", "%d KiB", size>>10)
	}
}

// agent looks for a leader by trying to take its lock.
func (p *patient) agent(ctx context.Context, conn *pgx.Conn) {
	var free bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1) AND pg_advisory_unlock($1)", p.names.LeaderKey()).Scan(&free); err != nil {
		p.failed("agent", err)
		return
	}
	if free {
		p.add(Warning, "agent", "none is running on this database", "changes wait in the outbox", "run icache-agent run")
		return
	}
	p.ok("agent", "one is leading")
	p.canary(ctx, conn)
}

func (p *patient) sessions(ctx context.Context, conn *pgx.Conn) {
	var oldest *time.Duration
	var standbys int
	if err := conn.QueryRow(ctx, `SELECT (SELECT max(clock_timestamp() - xact_start) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()),
		(SELECT count(*) FROM pg_stat_replication)`).Scan(&oldest, &standbys); err != nil {
		p.failed("sessions", err)
		return
	}
	if oldest != nil && *oldest > time.Hour {
		p.add(Warning, "long transactions", fmt.Sprintf("one is open for %s", oldest.Round(time.Minute)),
			"its own changes are applied when it commits; if it has written, the outbox cannot be emptied until then", "end it, if it was forgotten (pg_stat_activity)")
	}
	settles := p.cfg.Rules != nil && slices.ContainsFunc(p.cfg.Rules.Rules(), func(r *mapping.CompiledRule) bool { return r.Rule.Settle > 0 || r.Rule.SettleReplicas })
	if standbys > 0 && !settles {
		p.add(Note, "replicas", fmt.Sprintf("%d connected", standbys),
			"a fragment rendered from a replica that lags may be stored as current", "render from the primary, or give the rules of those tables a settle time")
	}
}
