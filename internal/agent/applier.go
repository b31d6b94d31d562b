package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
)

const (
	// flightTokens is how many distinct tokens are collected before they are
	// sent while more changes are still being read.
	flightTokens = 1024
	// pendingTokens bounds the tokens collected while a flight is under way.
	// Beyond it Apply waits for Redis, and Postgres for Apply: that, not the
	// size of the backlog, is what bounds the agent's memory.
	pendingTokens = 16 * flightTokens
	// heldChanges is how many changes wait for one round of lookups at most.
	heldChanges = 512
)

// bumper is the part of *icache.Cache that the applier needs.
type bumper interface {
	IncrMany(ctx context.Context, tokens []string) error
	IncrAll(ctx context.Context) (int, error)
}

// applier is the listener's handler: it maps changes to tokens and bumps them.
// The listener calls it from one goroutine.
type applier struct {
	want    *atomic.Pointer[mapping.Mapper] // the rules of the config
	mapper  *mapping.Mapper                 // the rules that apply
	next    *mapping.Mapper                 // the rules that the marks were given for
	cache   bumper
	lookups *lookups
	feed    *feed
	metrics *metrics
	recent  *recentTokens
	log     *slog.Logger

	cur    *batch
	spare  *batch
	flight chan error // of the batch on its way to Redis; nil if there is none
	flying *batch
	held   []mapping.Change    // wait for what their foreign keys point to
	warned map[string]struct{} // unmapped tables already spoken of

	installed *installedState
	settle    *settler
	purges    purges
	guard     *guard
	redis     redisMarks
}

// batch is a set of tokens in the order in which they first came up.
type batch struct {
	tokens  []string
	seen    map[string]struct{}
	events  []Event
	changes int
}

func newBatch() *batch { return &batch{seen: make(map[string]struct{}, flightTokens)} }

func (b *batch) reset() {
	clear(b.tokens) // let go of the strings
	b.tokens = b.tokens[:0]
	clear(b.seen)
	b.events = nil
	b.changes = 0
}

func newApplier(want *atomic.Pointer[mapping.Mapper], cache bumper, l *lookups, f *feed, m *metrics, recent *recentTokens, settle *settler, log *slog.Logger) *applier {
	return &applier{
		want: want, mapper: want.Load(), cache: cache, lookups: l, feed: f, metrics: m, recent: recent, log: log,
		cur: newBatch(), spare: newBatch(), warned: make(map[string]struct{}), installed: &installedState{},
		settle: settle,
	}
}

// Apply adds the tokens of one change. Equal tokens coalesce until they are sent.
func (a *applier) Apply(ctx context.Context, c listener.Change) error {
	change := mapping.Change{Table: c.Table, Op: mapping.Op(c.Op), Keys: c.Keys}
	rule := a.mapper.Rule(c.Table)
	if rule == nil {
		a.unmapped(ctx, c)
		return nil
	}
	a.metrics.change(c.Table, c.Op)
	a.cur.changes++
	if c.Keys != nil && rule.Follows() {
		change.Keys = bytes.Clone(c.Keys)
		if a.held = append(a.held, change); len(a.held) < heldChanges {
			return nil
		}
		if err := a.release(ctx); err != nil {
			return err
		}
	} else if err := a.add(ctx, change, nil); err != nil {
		return err
	}
	if n := len(a.cur.tokens); n >= flightTokens {
		return a.launch(ctx, n >= pendingTokens)
	}
	return nil
}

// release follows the foreign keys of the changes that were held back for it.
func (a *applier) release(ctx context.Context) error {
	if len(a.held) == 0 {
		return nil
	}
	m := a.mapper
	var keys []mapping.LookupKey
	for _, c := range a.held {
		// Malformed keys come up again, and are dealt with, in add.
		keys, _ = m.AppendLookups(keys, c)
	}
	resolved := a.lookups.resolve(ctx, keys)
	for _, c := range a.held {
		if err := a.add(ctx, c, resolved); err != nil {
			return err
		}
	}
	clear(a.held)
	a.held = a.held[:0]
	return nil
}

// add maps a change and adds, of its tokens, those that the batch does not have yet.
func (a *applier) add(ctx context.Context, c mapping.Change, res mapping.Resolver) error {
	m, b := a.mapper, a.cur
	start := len(b.tokens)
	tokens, err := m.AppendTokensWith(b.tokens, c, res)
	if errors.Is(err, mapping.ErrKeys) {
		// Whatever is in keys, the row did change: fall back to the whole table.
		a.metrics.invalid.Inc()
		a.log.WarnContext(ctx, "agent: keys could not be read, treating the whole table as changed",
			"table", c.Table, "op", c.Op.String(), "error", err)
		c.Keys = nil
		tokens, err = m.AppendTokensWith(b.tokens[:start], c, nil)
	}
	if err != nil {
		a.discard()
		return fmt.Errorf("map a change of %s to tokens: %w", c.Table, err)
	}
	added := tokens[start:]
	if len(added) == 0 {
		return nil // the rule leaves the operation out, or every token has a NULL
	}
	if a.feed.wants(time.Now()) {
		b.events = append(b.events, changeEvent(c, added))
	}
	if d := delayOf(m.Rule(c.Table)); !d.none() {
		a.settle.add(d, added)
	}
	b.tokens = tokens[:start]
	for _, t := range added {
		if _, dup := b.seen[t]; !dup {
			b.seen[t] = struct{}{}
			b.tokens = append(b.tokens, t)
		}
	}
	return nil
}

// launch sends the current batch if none is under way, waiting for that one only if must is set.
func (a *applier) launch(ctx context.Context, must bool) error {
	if a.flight != nil {
		if must {
			if err := a.land(<-a.flight); err != nil {
				return err
			}
		} else {
			select {
			case err := <-a.flight:
				if err := a.land(err); err != nil {
					return err
				}
			default:
				return nil
			}
		}
	}
	a.flying, a.cur, a.spare = a.cur, a.spare, nil
	done := make(chan error, 1)
	a.flight = done
	tokens := a.flying.tokens
	go func() { done <- a.bump(ctx, tokens) }()
	return nil
}

// land takes in the result of the flight.
func (a *applier) land(err error) error {
	b := a.flying
	a.flight, a.flying, a.spare = nil, nil, b
	if err != nil {
		a.discard()
		return err
	}
	a.acknowledged(b)
	b.reset()
	return nil
}

// Flush returns nil once Redis has acknowledged everything applied so far. After
// an error everything since the last Flush is forgotten, to be applied again.
func (a *applier) Flush(ctx context.Context) error {
	if a.flight != nil {
		if err := a.land(<-a.flight); err != nil {
			return err
		}
	}
	if err := a.release(ctx); err != nil {
		return err
	}
	if a.cur.changes == 0 {
		return nil
	}
	if len(a.cur.tokens) > 0 {
		if err := a.bump(ctx, a.cur.tokens); err != nil {
			a.discard()
			return err
		}
	}
	a.acknowledged(a.cur)
	a.cur.reset()
	return nil
}

// Reset outdates everything: continuity could not be proved.
func (a *applier) Reset(ctx context.Context, reason string) error {
	a.log.WarnContext(ctx, "agent: bumping the generation, every fragment becomes stale", "reason", reason)
	if _, err := a.cache.IncrAll(ctx); err != nil {
		a.metrics.bumpErrors.Inc()
		return fmt.Errorf("bump the generation: %w", err)
	}
	a.recent.everything(time.Now())
	a.purges.AddAll(time.Now(), "")
	a.metrics.resets.Inc()
	a.settleAll()
	a.feed.publish([]Event{{Time: time.Now(), Kind: "reset", Tokens: []string{"*"}, Reason: reason}})
	return nil
}

func (a *applier) bump(ctx context.Context, tokens []string) error {
	start := time.Now()
	if err := a.cache.IncrMany(ctx, tokens); err != nil {
		a.metrics.bumpErrors.Inc()
		return fmt.Errorf("bump tokens in redis: %w", err)
	}
	a.metrics.bumpSeconds.Observe(time.Since(start).Seconds())
	a.metrics.bumps.Add(float64(len(tokens)))
	a.recent.add(start, tokens)
	a.purges.Add(time.Now(), tokens)
	return nil
}

func (a *applier) acknowledged(b *batch) {
	a.metrics.applied(b.changes)
	now := time.Now()
	for i := range b.events {
		b.events[i].Time = now
	}
	a.feed.publish(b.events)
}

// discard forgets what was not acknowledged; the listener will apply it again.
func (a *applier) discard() {
	if a.flight != nil {
		<-a.flight //nolint:errcheck // it is not acknowledged, whatever it says
		a.flight = nil
		a.flying.reset()
		a.spare, a.flying = a.flying, nil
	}
	if a.spare == nil {
		a.spare = newBatch()
	}
	a.cur.reset()
	a.spare.reset()
	clear(a.held)
	a.held = a.held[:0]
}

// unmapped speaks once of a table that has triggers and no rule: the config and
// the migrations differ, which is normal for a moment during a deploy.
func (a *applier) unmapped(ctx context.Context, c listener.Change) {
	if _, known := a.warned[c.Table]; known {
		return
	}
	a.warned[c.Table] = struct{}{}
	a.log.WarnContext(ctx, "agent: a table has triggers and no rule in the config; run 'icache-agent migrate up' to remove them",
		"table", c.Table, "relation", c.Relation)
}

func changeEvent(c mapping.Change, tokens []string) Event {
	e := Event{Kind: "change", Table: c.Table, Op: c.Op.String()}
	if c.Keys != nil {
		e.Keys = append(json.RawMessage(nil), c.Keys...)
	}
	if len(tokens) > feedMaxToken {
		e.More = len(tokens) - feedMaxToken
		tokens = tokens[:feedMaxToken]
	}
	e.Tokens = append([]string(nil), tokens...)
	return e
}
