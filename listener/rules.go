package listener

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// rules is what a leader knows of the rules of its [Ruler].
type rules struct {
	marks map[string]string // of the rules that apply; nil if none is known to have applied before
	print string            // of icache.tables, as last read
	next  time.Time         // when to look whether that has changed
	mute  bool              // the marks cannot be kept, which has been said
}

// Refresh has the leader ask its [Ruler] for its marks again, within a
// heartbeat. It may be called at any time.
func (l *Listener) Refresh() { l.refresh.Store(true) }

// takeRules begins a leadership, before the first change is applied. After a
// reset nothing can have been missed.
func (ld *leader) takeRules(ctx context.Context, reset bool) error {
	r, ok := ld.l.cfg.Handler.(Ruler)
	if !ok {
		return nil
	}
	var err error
	if ld.rules.marks, err = ld.loadMarks(ctx); err != nil {
		return err
	}
	return ld.adopt(ctx, r, reset)
}

// checkRules sees to it that the rules that apply are those of the Ruler, and
// that it knows what is installed. It is called between batches: nothing that
// was applied waits to be flushed.
func (ld *leader) checkRules(ctx context.Context, now time.Time) error {
	r, ok := ld.l.cfg.Handler.(Ruler)
	if !ok {
		return nil
	}
	if !ld.l.refresh.Load() {
		if now.Before(ld.rules.next) {
			return nil
		}
		print, err := ld.fingerprint()
		ld.rules.next = now.Add(ld.l.tune.rules)
		if err != nil || print == ld.rules.print {
			return err
		}
	}
	return ld.adopt(ctx, r, false)
}

// adopt has the handler take up its rules, in an order in which a crash at any
// point is made good by the next leader: first what the rules may have missed
// takes effect, then their marks are kept, and only then are changes applied by
// them. The connection that writes the marks is the one that holds the leader
// lock, so nobody else applies changes by other rules meanwhile.
func (ld *leader) adopt(ctx context.Context, r Ruler, reset bool) error {
	ld.l.refresh.Store(false)
	print, err := ld.fingerprint() // before the rest: what comes later is found to differ
	if err != nil {
		return err
	}
	installed, err := ld.installed()
	if err != nil {
		return err
	}
	marks := r.Marks(installed)
	var changed []string
	for name, mark := range marks {
		if before, known := ld.rules.marks[name]; !reset && (!known || before != mark) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	err = ld.insist(ctx, "adopt rules", func(work context.Context) error { return r.Adopt(work, changed) })
	if err != nil || ld.stopped {
		return err
	}
	same := ld.rules.marks != nil && maps.Equal(marks, ld.rules.marks)
	ld.rules.marks, ld.rules.print, ld.rules.next = marks, print, time.Now().Add(ld.l.tune.rules)
	if same {
		return nil
	}
	return ld.saveMarks(ctx, marks)
}

// fingerprint changes whenever a migration has changed icache.tables.
func (ld *leader) fingerprint() (print string, err error) {
	ctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	err = ld.conn.QueryRow(ctx, `SELECT coalesce(md5(string_agg(relation::oid || ' ' || name || ' ' || definition, ',' ORDER BY relation::oid)), '') FROM `+
		ld.l.names.Tables()).Scan(&print)
	if err != nil {
		return "", fmt.Errorf("read what is installed: %w", err)
	}
	return print, nil
}

// installed returns the definitions by table. Children have that of their parent.
func (ld *leader) installed() (map[string]string, error) {
	return ld.pairs(`SELECT name, min(definition) FROM ` + ld.l.names.Tables() + ` GROUP BY name`)
}

// loadMarks returns nil if there are none that can be read.
func (ld *leader) loadMarks(ctx context.Context) (map[string]string, error) {
	marks, err := ld.pairs(`SELECT name, mark FROM ` + ld.l.names.Rules())
	if isForbidden(err) {
		ld.forbidden(ctx, err)
		return nil, nil
	}
	return marks, err
}

func (ld *leader) pairs(sql string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	rows, err := ld.conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	m := make(map[string]string)
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { m[name] = value; return nil }); err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	return m, nil
}

func (ld *leader) saveMarks(ctx context.Context, marks map[string]string) error {
	table := ld.l.names.Rules()
	var sql strings.Builder
	sql.WriteString("DELETE FROM " + table)
	for i, name := range slices.Sorted(maps.Keys(marks)) {
		if i == 0 {
			sql.WriteString("; INSERT INTO " + table + " (name, mark) VALUES ")
		} else {
			sql.WriteByte(',')
		}
		sql.WriteString("(" + literal(name) + "," + literal(marks[name]) + ")")
	}
	wctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	err := ld.exec(wctx, sql.String()) // several statements, one transaction
	if isForbidden(err) {
		ld.forbidden(ctx, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep the marks of the rules: %w", err)
	}
	return nil
}

// isForbidden reports whether the table is missing, as before a migration, or
// out of reach for the role.
func isForbidden(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "42P01" || pgErr.Code == "42501")
}

func (ld *leader) forbidden(ctx context.Context, err error) {
	if ld.rules.mute {
		return
	}
	ld.rules.mute = true
	ld.l.log.WarnContext(ctx, "listener: cannot keep by what rules changes are applied, so whoever leads next has to count every rule as changed; "+
		hintMigrate+", and grant the role what it needs on the table", "table", ld.l.names.Rules(), "error", err)
}
