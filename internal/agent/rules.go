package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/icache-go/icache-agent/mapping"
)

// installedState is what the leader knows of the installed triggers.
type installedState struct {
	mu      sync.Mutex
	due     map[string]string // by table, why a migration is due
	unruled []string          // tables with triggers and no rule

	// discovered is told of tables that have triggers and no rule. May be nil.
	discovered chan<- struct{}
}

// discover says whether the channel is to be told of tables without a rule.
func (s *installedState) discover(yes bool, tell chan<- struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discovered = nil
	if yes {
		s.discovered = tell
	}
}

// migrationDue returns why a migration is due for a table, or "".
func (s *installedState) migrationDue(table string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due[table]
}

// set takes in what was found. It returns the tables for which a migration is
// due that it was not due for before.
func (s *installedState) set(due map[string]string, unruled []string) (news []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for table, why := range due {
		if s.due[table] != why {
			news = append(news, table)
		}
	}
	slices.Sort(news)
	isNew := func(t string) bool { return !slices.Contains(s.unruled, t) }
	if s.discovered != nil && slices.ContainsFunc(unruled, isNew) {
		select {
		case s.discovered <- struct{}{}:
		default:
		}
	}
	s.due, s.unruled = due, unruled
	return news
}

// Marks implements [listener.Ruler]. A mark is of the rule and of the triggers:
// what happened before a migration was not recorded, or not as the rule needs it.
func (a *applier) Marks(installed map[string]string) map[string]string {
	a.next = a.want.Load()
	marks, due := make(map[string]string), make(map[string]string)
	for _, r := range a.next.Rules() {
		name := r.Rule.Table.String()
		definition, has := installed[name]
		marks[name] = mark(r, definition)
		if why := lacks(r, definition, has); why != "" {
			due[name] = why
		}
	}
	var unruled []string
	for name := range installed {
		if a.next.Rule(name) == nil {
			unruled = append(unruled, name)
		}
	}
	for _, name := range a.installed.set(due, unruled) {
		a.log.Warn("agent: a migration is due, run 'icache-agent migrate up'", "table", name, "why", due[name])
	}
	a.metrics.due.Set(float64(len(due)))
	a.redis.add(marks)
	a.purges.add(marks)
	return marks
}

// Adopt implements [listener.Ruler]: it outdates everything that the changed
// rules may have missed, and applies changes by the new rules from now on.
func (a *applier) Adopt(ctx context.Context, changed []string) error {
	if err := a.redis.adopt(ctx, a, slices.Contains(changed, redisMark)); err != nil {
		return err
	}
	a.purges.adopt(ctx, a, changed)
	var tokens []string
	for _, name := range changed {
		rule := a.next.Rule(name)
		if rule == nil {
			continue
		}
		if d := delayOf(rule); !d.none() {
			a.settle.add(d, rule.Fallback())
		}
		for _, t := range rule.Fallback() {
			if !slices.Contains(tokens, t) {
				tokens = append(tokens, t)
			}
		}
	}
	if len(tokens) > 0 {
		if err := a.bump(ctx, tokens); err != nil {
			return err
		}
		a.log.InfoContext(ctx, "agent: outdated what new or changed rules may have missed",
			"tables", strings.Join(changed, " "), "tokens", strings.Join(tokens, " "))
	}
	if len(changed) > 0 {
		// None of this comes again once the marks are kept.
		if err := a.purges.Save(ctx); err != nil {
			return err
		}
	}
	a.mapper = a.next
	clear(a.warned)
	return nil
}

// Unsettled implements [listener.Settler].
func (a *applier) Unsettled() time.Time {
	// In this order: what has been bumped a second time is given over to be purged
	// before it counts as settled.
	t := a.settle.oldest()
	if o := a.purges.Oldest(); !o.IsZero() && (t.IsZero() || o.Before(t)) {
		t = o
	}
	return t
}

// settleAll has everything outdated once more for every delay that a rule has.
func (a *applier) settleAll() {
	seen := make(map[delay]struct{})
	for _, r := range a.mapper.Rules() {
		d := delayOf(r)
		if _, dup := seen[d]; !dup && !d.none() {
			a.settle.addAll(d)
		}
		seen[d] = struct{}{}
	}
}

// markVersion is part of every mark; a new one has every rule count as changed.
const markVersion = "1"

func mark(r *mapping.CompiledRule, definition string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %t\n", markVersion, r.Rule.Settle, r.Rule.SettleReplicas)
	for _, t := range r.Templates {
		fmt.Fprintf(h, "%q\n", t.String())
	}
	h.Write([]byte(definition))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// triggers is what the definition in icache.tables says that is installed.
type triggers struct {
	On      []string `json:"on"`
	Keys    []string `json:"keys"`
	Columns []string `json:"columns"`
	When    string   `json:"when"`
	MaxKeys int      `json:"max_keys"`
	Always  bool     `json:"always"`
}

// lacks says what the installed triggers lack for a rule, or "".
func lacks(r *mapping.CompiledRule, definition string, installed bool) string {
	if !installed {
		return "the table has no triggers"
	}
	var have triggers
	if json.Unmarshal([]byte(definition), &have) != nil {
		return "" // of a version that this program does not know
	}
	var missing []string
	for _, s := range r.Sources() {
		if !slices.Contains(have.Keys, s.Name()) {
			missing = append(missing, s.Name())
		}
	}
	if len(missing) > 0 {
		return "the triggers do not record " + strings.Join(missing, ", ") + "; until then group tokens are bumped"
	}
	var on []string
	for _, op := range r.Rule.On {
		on = append(on, op.String())
	}
	var other []string
	for what, same := range map[string]bool{
		"on": slices.Equal(on, have.On), "columns": slices.Equal(r.Rule.Columns, have.Columns), "when": r.Rule.When == have.When,
		"max_keys": r.Rule.MaxKeys == have.MaxKeys, "always": r.Rule.Always == have.Always,
	} {
		if !same {
			other = append(other, what)
		}
	}
	if len(other) == 0 {
		return ""
	}
	slices.Sort(other)
	return "the triggers were made with other " + strings.Join(other, ", ")
}
