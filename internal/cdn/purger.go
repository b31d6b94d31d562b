package cdn

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/outbox"
)

const (
	// hold is for how long keys may be outstanding before they are written to
	// the table. While a sink answers, and its repetition is not later, nothing is.
	hold      = 5 * time.Second
	saveEvery = 250 * time.Millisecond
	// lookEvery is how often a table that cannot be used is looked for.
	lookEvery = 10 * time.Second
)

// Config configures a [Purger].
type Config struct {
	Sinks []Sink
	// Connect opens a connection to the database that the changes come from.
	Connect func(ctx context.Context) (*pgx.Conn, error)
	Schema  string
	// Changed is called when the answer of [Purger.Durable] may be another.
	Changed func()
	Logger  *slog.Logger
}

// Purger purges tokens at sinks. Its methods are safe for concurrent use; of a
// nil Purger, which has no sinks, they do nothing.
type Purger struct {
	cfg     Config
	senders []*sender
	table   *table

	durable  atomic.Bool   // the table can be used
	unusable atomic.Bool   // it has been found that it cannot
	inherit  atomic.Bool   // what others have left is to be taken over
	kick     chan struct{} // a round is due
	round    sync.Mutex    // one at a time
	warned   time.Time     // of the round
}

// New returns nil if there are no sinks. It connects to nothing yet.
func New(cfg Config) (*Purger, error) {
	if len(cfg.Sinks) == 0 {
		return nil, nil
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	p := &Purger{
		cfg: cfg, kick: make(chan struct{}, 1),
		table: &table{connect: cfg.Connect, names: outbox.In(cfg.Schema), agent: rand.Text()},
	}
	seen := make(map[string]bool)
	for _, s := range cfg.Sinks {
		if s.Name == "" || seen[s.Name] || s.Cache == nil {
			return nil, fmt.Errorf("cdn: sink %q has no name of its own, or no cache", s.Name)
		}
		seen[s.Name] = true
		p.senders = append(p.senders, newSender(s, maxKeys, cfg.Logger))
	}
	return p, nil
}

// Add has tokens purged at every sink. The time is that at which their changes
// were applied, or before it: see [Purger.Oldest].
func (p *Purger) Add(since time.Time, tokens []string) {
	if p == nil {
		return
	}
	for _, s := range p.senders {
		s.queue.add(since, tokens)
	}
}

// AddAll has everything purged, at one sink, or at every one if it is "".
func (p *Purger) AddAll(since time.Time, sink string) {
	if p == nil {
		return
	}
	for _, s := range p.senders {
		if sink == "" || s.Name == sink {
			s.queue.giveUp(since)
		}
	}
	p.wake()
}

// Oldest returns when the earliest of the changes was applied whose purge would
// be lost with this process; the zero time if there is none.
func (p *Purger) Oldest() (t time.Time) {
	if p == nil || !p.durable.Load() {
		return t // whoever takes over purges everything
	}
	for _, s := range p.senders {
		if o := s.queue.oldest(); !o.IsZero() && (t.IsZero() || o.Before(t)) {
			t = o
		}
	}
	return t
}

// Save returns nil once no purge that was added before would be lost with this
// process, or if that cannot be helped.
func (p *Purger) Save(ctx context.Context) error {
	if p == nil || !p.durable.Load() {
		return nil
	}
	for _, s := range p.senders {
		s.queue.hurry()
	}
	return p.save(ctx)
}

// TakeOver has what other processes have left undone done by this one. It is
// called when this process begins to lead, perhaps not for the first time:
// those that led since may have removed its rows.
func (p *Purger) TakeOver() {
	if p == nil {
		return
	}
	for _, s := range p.senders {
		s.queue.unstored()
	}
	p.inherit.Store(true)
	p.wake()
}

// Durable reports whether purges survive this process. If not, whoever takes
// over has to purge everything.
func (p *Purger) Durable(ctx context.Context) bool {
	if p == nil {
		return true
	}
	ok, err := p.table.usable(ctx)
	if err != nil { // nothing new is known
		p.cfg.Logger.WarnContext(ctx, "cdn: cannot look whether purges can be kept", "error", err)
		p.unusable.Store(!p.durable.Load())
		return p.durable.Load()
	}
	p.durable.Store(ok)
	if before := p.unusable.Swap(!ok); !ok && !before {
		p.cfg.Logger.WarnContext(ctx, "cdn: purges that are outstanding cannot be kept, everything is purged whenever an agent takes over; "+
			`run "icache-agent migrate up", and grant the role what it needs on the table`, "table", p.table.names.Purges())
	}
	return ok
}

// Sinks returns the sinks by name, each with what its cache is.
func (p *Purger) Sinks() map[string]string {
	if p == nil {
		return nil
	}
	m := make(map[string]string, len(p.senders))
	for _, s := range p.senders {
		m[s.Name] = s.Cache.String()
	}
	return m
}

// Status returns the present state of the sinks.
func (p *Purger) Status() (list []Status) {
	if p == nil {
		return nil
	}
	for _, s := range p.senders {
		status := s.report()
		status.Durable = p.durable.Load()
		list = append(list, status)
	}
	return list
}

// Run purges until ctx ends.
func (p *Purger) Run(ctx context.Context) {
	if p == nil {
		return
	}
	var wg sync.WaitGroup
	for _, s := range p.senders {
		wg.Go(func() { s.run(ctx) })
	}
	wg.Go(func() { p.keep(ctx) })
	wg.Wait()
	ctx = context.WithoutCancel(ctx)
	if p.durable.Load() {
		p.tidy(ctx)
	}
	p.table.close(ctx)
}

func (p *Purger) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// keep keeps the table.
func (p *Purger) keep(ctx context.Context) {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	looked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-p.kick:
		}
		if !p.durable.Load() {
			if p.unusable.Load() && time.Since(looked) >= lookEvery {
				looked = time.Now()
				if ok, err := p.table.usable(ctx); err == nil && ok {
					p.cfg.Changed()
				}
			}
			continue
		}
		if err := p.save(ctx); err != nil && ctx.Err() == nil && time.Since(p.warned) >= failedAgain {
			p.warned = time.Now()
			p.cfg.Logger.WarnContext(ctx, "cdn: cannot write down which purges are outstanding, will try again; until then the outbox keeps the changes", "error", err)
			p.cfg.Changed()
		}
	}
}

// save brings the table up to date.
func (p *Purger) save(ctx context.Context) error {
	p.round.Lock()
	defer p.round.Unlock()
	if p.inherit.Load() {
		if err := p.takeOver(ctx); err != nil {
			return err
		}
	}
	before := time.Now().Add(-hold)
	changes := make(map[string]rows)
	for _, s := range p.senders {
		if r := s.queue.unsaved(before); !r.empty() {
			changes[s.Name] = r
		}
	}
	err := p.table.write(ctx, changes)
	for _, s := range p.senders {
		r, ok := changes[s.Name]
		switch {
		case !ok:
		case err == nil:
			s.queue.written(r)
		default:
			s.queue.unwritten(r)
		}
	}
	return err
}

// tidy removes rows at the end, or the next process would purge again what has
// been purged. It adds none: another may lead by now, and the cursor is behind
// what is not in the table.
func (p *Purger) tidy(ctx context.Context) {
	changes := make(map[string]rows)
	for _, s := range p.senders {
		if r := s.queue.purged(); !r.empty() {
			changes[s.Name] = r
		}
	}
	if err := p.table.write(ctx, changes); err != nil {
		p.cfg.Logger.WarnContext(ctx, "cdn: cannot write down what has been purged, it will be purged again", "error", err)
	}
}

func (p *Purger) takeOver(ctx context.Context) error {
	p.inherit.Store(false)
	names := make([]string, 0, len(p.senders))
	for _, s := range p.senders {
		names = append(names, s.Name)
	}
	left, err := p.table.takeOver(ctx, names)
	if err != nil {
		p.inherit.Store(true)
		return err
	}
	for _, r := range left {
		for _, s := range p.senders {
			if s.Name == r.sink {
				s.queue.restore(r.key, r.since)
			}
		}
	}
	if len(left) > 0 {
		p.cfg.Logger.InfoContext(ctx, "cdn: going on with what another agent has left to be purged", "keys", len(left))
	}
	return nil
}

// Check makes one request to a sink that purges nothing, and returns what is
// wrong with it.
func Check(ctx context.Context, s Sink) error {
	if err := s.Cache.Purge(ctx, []string{s.Cache.Key("icache-check:" + rand.Text())}); err != nil {
		return fmt.Errorf("%s: %w", s.Cache, err)
	}
	return nil
}

// Purge purges tokens at sinks, now and once.
func Purge(ctx context.Context, sinks []Sink, tokens []string) error {
	var errs []error
	for _, s := range sinks {
		q := newQueue(s.Cache, 0, maxKeys)
		q.add(time.Now(), tokens)
		for batch := q.take(s.Cache.Limits(), time.Now()); len(batch) > 0; batch = q.take(s.Cache.Limits(), time.Now()) {
			keys := make([]string, len(batch))
			for i, t := range batch {
				keys[i] = t.key
			}
			if err := s.Cache.Purge(ctx, keys); err != nil {
				errs = append(errs, fmt.Errorf("purge at %s: %w", s.Name, err))
				break
			}
		}
	}
	return errors.Join(errs...)
}
