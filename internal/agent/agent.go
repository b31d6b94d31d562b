package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
)

// Config says what to watch and where to bump.
type Config struct {
	Postgres listener.Config // the Handler is set by New

	// Redis is used, and not closed, by the agent.
	Redis        redis.UniversalClient
	CacheOptions []icache.Option

	Rules []mapping.Rule

	// Load reads the config again; see [Agent.Reload]. May be nil.
	Load func(context.Context) (*Loaded, error)
	// Discover says that the rules depend on what is in the database: Load is
	// called when there is a table with triggers that has no rule.
	Discover bool

	// HTTPListen is the address of the status server; empty means none.
	HTTPListen string
	// HTTPListener is served instead, if it is not nil.
	HTTPListener net.Listener

	// ReplayWindow is how far back bumps are repeated after Redis restarted or
	// failed over. Defaults to 60 seconds; negative means never.
	ReplayWindow time.Duration

	// Lease is how long the lease of the guard lasts; see [icache.WithGuard].
	// Zero means that there is none.
	Lease time.Duration

	// Sinks are the CDNs at which tokens are purged after they were bumped.
	Sinks []cdn.Sink

	// WaitReplicas is how many replicas must have a bump before it counts as
	// acknowledged (WAIT), of each master in a Redis Cluster.
	WaitReplicas int

	// ForeignReaders says that there are readers that know neither group tokens
	// nor the generation: each token of a group is bumped by itself.
	ForeignReaders bool

	// Version of the program, for people and metrics.
	Version string
	// Logger defaults to one that discards.
	Logger *slog.Logger
}

// Agent applies changes of one database to one Redis.
type Agent struct {
	cfg      Config
	mapper   atomic.Pointer[mapping.Mapper] // the rules of the config
	applier  *applier
	guard    *guard
	bumper   bumper
	settle   *settler
	purger   *cdn.Purger // nil if there are no sinks
	reload   reloadState
	cache    *icache.Cache
	listener *listener.Listener
	lookups  *lookups
	feed     *feed
	metrics  *metrics
	watch    *redisWatch
	recent   *recentTokens
	log      *slog.Logger
	started  time.Time
	stopping chan struct{}
}

const (
	defaultReplayWindow = time.Minute
	// maxRecentTokens bounds the memory of the replay window, at some 100 bytes a
	// token; past it a failover bumps the generation instead.
	maxRecentTokens = 200_000
	redisCheckEvery = time.Second
	// redisTwoMasters is how long there may be two masters after a failover.
	redisTwoMasters = 15 * time.Second
)

// New checks the rules and prepares an agent. It connects to nothing yet.
func New(cfg Config) (*Agent, error) {
	if cfg.Redis == nil {
		return nil, errors.New("agent: Config.Redis is nil")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ReplayWindow == 0 {
		cfg.ReplayWindow = defaultReplayWindow
	}
	m, err := mapping.Compile(cfg.Rules)
	if err != nil {
		return nil, err
	}
	cache, err := icache.New(cfg.Redis, cfg.CacheOptions...)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, cache: cache, feed: newFeed(), log: cfg.Logger,
		recent:   newRecentTokens(cfg.ReplayWindow, maxRecentTokens),
		stopping: make(chan struct{}),
		started:  time.Now(),
	}
	a.mapper.Store(m)
	a.reload.succeeded(nil)
	a.metrics = newMetrics(cfg.Version, func() listener.Stats { return a.listener.Stats() })
	lc := cfg.Postgres
	lc.Logger = cfg.Logger
	connect := func(ctx context.Context) (*pgx.Conn, error) { return connectPrimary(ctx, lc.URL) }
	a.lookups = newLookups(connect, cfg.Logger)
	a.bumper = cache
	if cfg.ForeignReaders {
		a.bumper = &foreign{cache: cache, log: cfg.Logger}
	}
	if a.bumper, err = waitFor(cfg.WaitReplicas, a.bumper, cache.LeaseKey(), cfg.Redis); err != nil {
		return nil, err
	}
	a.purger, err = cdn.New(cdn.Config{
		Sinks: cfg.Sinks, Connect: connect, Schema: lc.Schema, Changed: func() { a.listener.Refresh() }, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	if a.purger != nil {
		a.metrics.registry.MustRegister(&cdnCollector{a.purger.Status})
	}
	a.settle = newSettler(a.bumper, &standbys{connect: connect, log: cfg.Logger}, a.metrics, cfg.Logger)
	a.settle.purger = a.purger
	a.metrics.reloaded()
	a.watch = &redisWatch{rdb: cfg.Redis, every: redisCheckEvery, replay: a.replay, repeat: a.repeat, after: redisTwoMasters, metrics: a.metrics, log: cfg.Logger}
	a.applier = newApplier(&a.mapper, a.bumper, a.lookups, a.feed, a.metrics, a.recent, a.settle, cfg.Logger)
	a.reload.discovered = make(chan struct{}, 1)
	if cfg.Discover {
		a.applier.installed.discovered = a.reload.discovered
	}
	a.guard = &guard{cache: cache, rdb: cfg.Redis, lease: cfg.Lease, confirm: a.watch.check, metrics: a.metrics}
	a.applier.guard = a.guard
	a.applier.purges = purges{Purger: a.purger, leading: func() time.Time { return a.listener.Stats().Since }}
	a.applier.redis = redisMarks{known: a.watch.known, leading: func() time.Time { return a.listener.Stats().Since }}
	lc.Handler, lc.Canary = a.applier, a.guard.every()
	if a.listener, err = listener.New(lc); err != nil {
		return nil, err
	}
	a.watch.changed = a.listener.Refresh
	return a, nil
}

// Run applies changes until ctx ends; then it finishes the batch in hand and
// returns nil. Lost connections are not errors: it reconnects by itself. It may
// be called once.
func (a *Agent) Run(ctx context.Context) error {
	ln := a.cfg.HTTPListener
	if ln == nil && a.cfg.HTTPListen != "" {
		var err error
		// Bound here, so that an address in use is an error at start.
		if ln, err = net.Listen("tcp", a.cfg.HTTPListen); err != nil {
			return fmt.Errorf("listen for http: %w (set http.listen to another address, or to \"\" for none)", err)
		}
	}
	a.announce(ctx, ln)
	g, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { close(a.stopping) })
	g.Go(func() error { return a.listener.Run(ctx) })
	g.Go(func() error { a.watch.run(ctx); return nil })
	g.Go(func() error { a.discover(ctx); return nil })
	g.Go(func() error { a.settle.run(ctx); return nil })
	g.Go(func() error { a.purger.Run(ctx); return nil })
	if ln != nil {
		g.Go(func() error { return a.serve(ctx, ln) })
	}
	err := g.Wait()
	a.lookups.close(context.WithoutCancel(ctx))
	if cerr := a.cache.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("close the cache: %w", cerr)
	}
	a.log.InfoContext(ctx, "agent: stopped", "error", err)
	return err
}

// announce logs one line that says what is watched.
func (a *Agent) announce(ctx context.Context, ln net.Listener) {
	rules := a.mapper.Load().Rules()
	names := make([]string, 0, len(rules))
	for _, r := range rules {
		names = append(names, r.Rule.Table.String())
	}
	attrs := []any{"version", a.cfg.Version, "tables", len(names), "watching", strings.Join(names, " ")}
	if ln != nil {
		attrs = append(attrs, "http", "http://"+ln.Addr().String())
	}
	a.log.InfoContext(ctx, "agent: starting", attrs...)
}

// replay bumps again what was bumped within the replay window, and everything
// if that may not be all that was lost: when Redis may have gone back further,
// and when another agent may have bumped within the window.
func (a *Agent) replay(ctx context.Context, why string, recent bool) error {
	if a.cfg.ReplayWindow < 0 {
		return nil
	}
	tokens, complete := a.recent.snapshot(time.Now())
	if s := a.listener.Stats(); s.Leader {
		complete = complete && recent && time.Since(s.Since) > a.cfg.ReplayWindow
	}
	return a.bumpAgain(ctx, why, tokens, complete)
}

// repeat bumps again what this agent itself bumped, of late, while Redis failed
// over.
func (a *Agent) repeat(ctx context.Context) error {
	if a.cfg.ReplayWindow < 0 {
		return nil
	}
	tokens, complete := a.recent.snapshot(time.Now())
	return a.bumpAgain(ctx, "redis failed over a while ago", tokens, complete)
}

func (a *Agent) bumpAgain(ctx context.Context, why string, tokens []string, complete bool) error {
	a.log.WarnContext(ctx, "agent: bumping recent tokens again", "reason", why, "tokens", len(tokens), "complete", complete)
	if !complete {
		if _, err := a.bumper.IncrAll(ctx); err != nil {
			return fmt.Errorf("bump the generation after %s: %w", why, err)
		}
	}
	if len(tokens) > 0 { // those that were lost are created again, for whoever takes an absent one for 0
		if err := a.bumper.IncrMany(ctx, tokens); err != nil {
			return fmt.Errorf("bump recent tokens after %s: %w", why, err)
		}
	}
	// Pages may have been rendered meanwhile from what Redis had outdated, and forgotten that.
	if !complete {
		a.purger.AddAll(time.Now(), "")
	}
	a.purger.Add(time.Now(), tokens)
	if err := a.purger.Save(ctx); err != nil {
		return fmt.Errorf("keep the purges of recent tokens after %s: %w", why, err)
	}
	a.metrics.replays.Inc()
	return nil
}

// connectPrimary opens a connection to the server that the changes come from:
// a standby may not have what they are about.
func connectPrimary(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "icache-agent"
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// Subscribe returns the changes applied from now on, and the last ones before.
func (a *Agent) Subscribe() (*Subscription, []Event) { return a.feed.subscribe() }

// Cache returns the cache through which the agent bumps.
func (a *Agent) Cache() *icache.Cache { return a.cache }
