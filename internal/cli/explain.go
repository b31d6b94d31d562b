package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/explain"
	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

type explainOut struct {
	RolledBack bool           `json:"rolled_back"`
	Statements []statementOut `json:"statements"`
	Redis      string         `json:"redis"` // ok, or why it was not asked
	Drift      []tableOut     `json:"drift,omitempty"`
	Notes      []string       `json:"notes,omitempty"`
}

type statementOut struct {
	SQL     string      `json:"sql"`
	Tag     string      `json:"tag,omitempty"`
	Changes []changeSet `json:"changes"`
	More    int         `json:"more_changes,omitempty"` // not listed
	Tokens  []tokenOut  `json:"tokens"`
}

type changeSet struct {
	Table  string          `json:"table"`
	Op     string          `json:"op"`
	Keys   json.RawMessage `json:"keys"` // null: unknown
	Tokens []string        `json:"tokens"`
}

type tokenOut struct {
	Token  string `json:"token"`
	Exists *bool  `json:"exists,omitempty"` // in Redis, if that is known
}

func (a *app) explainCommand() *cobra.Command {
	var file string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "explain \"SQL\"…",
		Short: "Say which tokens statements would bump, and roll them back",
		Long: `Executes statements in one transaction that is always rolled back, and prints for each
which rules fired, with which keys, the tokens that would be bumped, and which of them are in
Redis. The triggers have to be installed. The connection is that of postgres.url: its role
needs the right to execute the statements and to read the outbox.

  icache-agent explain "UPDATE movies SET genre_id = 8 WHERE id = 42"
  icache-agent explain --file changes.sql

Locks are held until the end, as in any transaction. Sequences that have moved on and effects
outside of the transaction (dblink, COPY TO PROGRAM) are not undone. COMMIT and the like are refused.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			statements, err := explainInput(cmd, args, file)
			if err != nil {
				return err
			}
			return a.explain(cmd, statements, timeout)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "`file` with statements, executed before those of the arguments")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long a statement may run, 0 for no limit")
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

// explainInput reads the statements of the file and of the arguments.
func explainInput(cmd *cobra.Command, args []string, file string) ([]explain.Statement, error) {
	var list []explain.Statement
	add := func(where, sql string) error {
		statements, err := explain.Split(sql)
		if err != nil {
			return usageErrorf("%s: %w", where, err)
		}
		for _, s := range statements {
			if reason := s.Refused(); reason != "" {
				return usageErrorf("%s:%d: %s", where, s.Line, reason)
			}
		}
		list = append(list, statements...)
		return nil
	}
	if file != "" {
		sql, err := os.ReadFile(file)
		if err != nil {
			return nil, usageErrorf("read the statements: %w", err)
		}
		if err := add(file, string(sql)); err != nil {
			return nil, err
		}
	}
	for i, sql := range args {
		if err := add(fmt.Sprintf("argument %d", i+1), sql); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, usageErrorf("%q needs at least one statement (see '%s --help')", cmd.CommandPath(), cmd.CommandPath())
	}
	return list, nil
}

func (a *app) explain(cmd *cobra.Command, statements []explain.Statement, timeout time.Duration) error {
	ctx := cmd.Context()
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	conn, err := connectPostgres(ctx, cfg, "icache-agent explain")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	m, err := a.mapper(ctx, cfg, conn)
	if err != nil {
		return err
	}
	out := &explainOut{RolledBack: true, Statements: []statementOut{}}
	if err := out.examine(ctx, conn, cfg, m); err != nil {
		return err
	}
	var foreign mapping.Resolved
	results, failure := explain.Run(ctx, conn, statements, explain.Options{
		Names: outbox.In(cfg.Postgres.Schema), LockTimeout: cfg.Postgres.LockTimeout, Timeout: timeout,
		Before: func(ctx context.Context, results []explain.Result) {
			foreign = agent.Resolve(ctx, conn, lookups(m, results))
		},
	})
	for _, r := range results {
		s, err := explained(m, r, foreign)
		if err != nil {
			return err
		}
		out.Statements = append(out.Statements, s)
	}
	out.askRedis(ctx, cfg)
	if err := a.printExplain(out); err != nil {
		return err
	}
	if e, ok := errors.AsType[*explain.Error](failure); ok && len(statements) > 1 {
		return fmt.Errorf("%s: %w (everything was rolled back)", brief(e.Statement.SQL), e.Err)
	}
	if failure != nil {
		return fmt.Errorf("%w (everything was rolled back)", failure)
	}
	if len(out.Drift) > 0 {
		return &exitError{code: exitProblem}
	}
	return nil
}

// examine makes sure that the triggers are there and record something.
func (out *explainOut) examine(ctx context.Context, conn *pgx.Conn, cfg *config.Config, m *mapping.Mapper) error {
	migrator, err := migrator(conn, cfg, m)
	if err != nil {
		return err
	}
	s, err := migrator.Status(ctx)
	if err != nil {
		return err
	}
	if !s.Installed {
		return &exitError{exitProblem, fmt.Errorf("no triggers are installed in this database (run 'icache-agent migrate up')")}
	}
	for _, t := range s.Tables {
		if t.State == migrations.StateOK {
			continue
		}
		out.Drift = append(out.Drift, tableStatus(t))
		out.Notes = append(out.Notes, fmt.Sprintf("the triggers of %s are %s: what they record is not what the config asks for ('icache-agent migrate status' tells)", t.Table, t.State))
	}
	var overflow bool
	if err := conn.QueryRow(ctx, "SELECT last_value = 1 FROM "+outbox.In(cfg.Postgres.Schema).Overflow()).Scan(&overflow); err != nil {
		return fmt.Errorf("read the state of the outbox: %w (the role needs the rights of the agent)", err)
	}
	if overflow {
		return &exitError{exitProblem, fmt.Errorf("the outbox is past its size limit and triggers record nothing (start an agent: it outdates everything and empties the outbox)")}
	}
	return nil
}

// lookups returns the foreign keys to follow. The agent follows them after the
// commit, so the answers are those at the end of all statements.
func lookups(m *mapping.Mapper, results []explain.Result) (keys []mapping.LookupKey) {
	for _, r := range results {
		for _, c := range r.Changes {
			if more, err := m.AppendLookups(keys, change(c)); err == nil {
				keys = more
			}
		}
	}
	return keys
}

func change(c explain.Change) mapping.Change {
	if c.Table == "" { // it has triggers left from another config
		c.Table = c.Relation
	}
	return mapping.Change{Table: c.Table, Op: c.Op, Keys: c.Keys}
}

// explained maps what a statement recorded to tokens.
func explained(m *mapping.Mapper, r explain.Result, foreign mapping.Resolved) (statementOut, error) {
	s := statementOut{SQL: r.Statement.SQL, Tag: r.Tag, More: r.More, Changes: []changeSet{}, Tokens: []tokenOut{}}
	var all []string
	for _, c := range r.Changes {
		mapped := change(c)
		tokens, err := m.AppendTokensWith(nil, mapped, foreign)
		if err != nil && !errors.Is(err, mapping.ErrNoRule) {
			return s, fmt.Errorf("map a change of %s: %w", mapped.Table, err)
		}
		set := changeSet{Table: mapped.Table, Op: c.Op.String(), Keys: c.Keys, Tokens: []string{}}
		set.Tokens = append(set.Tokens, unique(tokens)...)
		all = append(all, set.Tokens...)
		s.Changes = append(s.Changes, set)
	}
	for _, t := range unique(all) {
		s.Tokens = append(s.Tokens, tokenOut{Token: t})
	}
	return s, nil
}

// askRedis finds out which tokens exist. Without Redis the rest is still worth reading.
func (out *explainOut) askRedis(ctx context.Context, cfg *config.Config) {
	var tokens []string
	for _, s := range out.Statements {
		for _, t := range s.Tokens {
			tokens = append(tokens, t.Token)
		}
	}
	values, err := tokenValues(ctx, cfg, unique(tokens))
	if err != nil {
		out.Redis = "not asked: " + oneLine(err)
		return
	}
	out.Redis = "ok"
	for _, s := range out.Statements {
		for i := range s.Tokens {
			_, exists := values[s.Tokens[i].Token]
			s.Tokens[i].Exists = &exists
		}
	}
}

func tokenValues(ctx context.Context, cfg *config.Config, tokens []string) (map[string]uint64, error) {
	if cfg.Redis.URL == "" {
		return nil, errors.New("no redis.url in the config")
	}
	rdb, opts, err := openRedis(cfg)
	if err != nil {
		return nil, err
	}
	defer rdb.Close()
	if err := pingRedis(ctx, rdb); err != nil {
		return nil, err
	}
	c, err := icache.New(rdb, opts...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	values := make(map[string]uint64, len(tokens))
	for chunk := range slices.Chunk(tokens, 1000) {
		some, err := c.Values(ctx, chunk...)
		if err != nil {
			return nil, err
		}
		maps.Copy(values, some)
	}
	return values, nil
}

// brief is the beginning of a statement, in one line.
func brief(sql string) string {
	text := []rune(strings.Join(strings.Fields(sql), " "))
	if len(text) > 100 {
		text = append(text[:99], '…')
	}
	return printable(string(text))
}
