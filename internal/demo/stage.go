package demo

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"go.yaml.in/yaml/v3"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/demo/servers"
	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

const (
	agentSchema = "icache_demo_agent" // data/icache.yaml says the same
	demoLock    = 0x1cac4ede30        // advisory: one demo at a time in a database
)

// settleLimit is how long to wait for transactions that were open at the start.
const settleLimit = 3 * time.Second

const lockLimit = 10 * time.Second

var errRunning = errors.New("another demo is running on this database")

// stage is everything that the page plays on. Parts that are nil have not been
// set up.
type stage struct {
	opt      Options
	postgres *servers.Server
	redis    *servers.Server
	pool     *pgxpool.Pool
	lock     *pgx.Conn // holds the advisory lock
	made     bool      // the schemas have been made, or begun to be
	client   *redis.Client
	prefix   string // of every key in Redis
	rules    []mapping.Rule
	cache    *icache.Cache // of the page; the agent has its own
	agent    *agent.Agent
	stop     context.CancelFunc // of the agent
	stopped  chan error         // by the agent
	changes  *changes
	sub      *agent.Subscription
	followed chan struct{}
}

// open sets everything up. Close the stage also if there is an error.
func open(ctx context.Context, opt Options) (*stage, error) {
	st := &stage{opt: opt}
	printf(opt.Stdout, "\nicache demo\n\n")
	finder := &servers.Finder{Getenv: opt.Getenv, Say: func(line string) { printf(opt.Stdout, "  · %s\n", line) }}
	var err error
	if st.postgres, err = finder.Postgres(ctx); err != nil {
		return st, err
	}
	printf(opt.Stdout, "  Postgres  %s\n", st.postgres.Where)
	if st.redis, err = finder.Redis(ctx); err != nil {
		return st, err
	}
	printf(opt.Stdout, "  Redis     %s\n", st.redis.Where)
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, step := range []func(context.Context) error{st.connect, st.migrate, st.run} {
		if err := step(ctx); err != nil {
			return st, err
		}
	}
	return st, nil
}

// connect connects to both servers and says what will be made on those that are not ours.
func (st *stage) connect(ctx context.Context) error {
	cfg, err := pgxpool.ParseConfig(st.postgres.URL)
	if err != nil {
		return err
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = "icache-demo"
	if st.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return err
	}
	opt, err := redis.ParseURL(st.redis.URL)
	if err != nil {
		return err
	}
	st.client = redis.NewClient(opt)
	st.prefix = redisPrefix(cfg.ConnConfig)
	if st.postgres.Given {
		printf(st.opt.Stdout, "  · makes the schemas %s and %s there, with triggers on its own tables only; both are dropped at the end\n", schemaName, agentSchema)
	}
	if st.redis.Given {
		printf(st.opt.Stdout, "  · makes keys %s* there; they are deleted at the end\n", st.prefix)
	}
	if st.lock, err = pgx.ConnectConfig(ctx, st.pool.Config().ConnConfig); err != nil {
		return err
	}
	var free bool
	if err := st.lock.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(demoLock)).Scan(&free); err != nil {
		return err
	}
	if !free {
		return errRunning
	}
	return st.deleteKeys(ctx)
}

// redisPrefix is what all keys in Redis start with. Demos on several databases
// may share one Redis; a demo finds what an earlier one on its database has left.
func redisPrefix(cfg *pgx.ConnConfig) string {
	h := fnv.New32a()
	fmt.Fprint(h, cfg.Host, cfg.Port, cfg.Database)
	return "icache-demo:" + strconv.FormatUint(uint64(h.Sum32()), 36) + ":"
}

// migrate makes the films and their triggers, after what a demo that was killed has left.
func (st *stage) migrate(ctx context.Context) error {
	var err error
	if st.rules, err = demoRules(); err != nil {
		return err
	}
	mapper, err := mapping.Compile(st.rules)
	if err != nil {
		return err
	}
	m, err := st.migrator(mapper)
	if err != nil {
		return err
	}
	if _, err := m.Down(ctx); err != nil {
		return fmt.Errorf("remove what an earlier demo has left: %w", err)
	}
	if err := createDatabase(ctx, st.pool); err != nil {
		return fmt.Errorf("make the films: %w", err)
	}
	st.made = true
	if _, err := m.Up(ctx); err != nil {
		return fmt.Errorf("make the triggers: %w", err)
	}
	return nil
}

// migrator may wait long for locks: nobody but the demo uses the tables. What it
// waits for is the role of the triggers, which all databases of a server share.
func (st *stage) migrator(rules *mapping.Mapper) (*migrations.Migrator, error) {
	return migrations.New(st.lock, migrations.Config{Rules: rules, Schema: agentSchema, LockTimeout: lockLimit})
}

// demoRules reads data/icache.yaml.
func demoRules() ([]mapping.Rule, error) {
	var file struct {
		Tables []struct {
			Table  string
			Tokens []string
		}
	}
	if err := yaml.Unmarshal(rules(), &file); err != nil {
		return nil, fmt.Errorf("data/icache.yaml: %w", err)
	}
	cfg := config.Default()
	for _, t := range file.Tables {
		cfg.Tables = append(cfg.Tables, config.Table{Table: t.Table, Tokens: t.Tokens})
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("data/icache.yaml: %w", err)
	}
	return cfg.Rules(), nil
}

// run starts the agent and waits until it is ready.
func (st *stage) run(ctx context.Context) error {
	options := []icache.Option{icache.WithPrefix(st.prefix), icache.WithTimeout(time.Second)}
	var err error
	if st.cache, err = icache.New(st.client, options...); err != nil {
		return err
	}
	st.agent, err = agent.New(agent.Config{
		Postgres:     listener.Config{URL: st.postgres.URL, Schema: agentSchema},
		Redis:        st.client,
		CacheOptions: options,
		Rules:        st.rules,
		Version:      "demo",
		Logger:       st.opt.Logger,
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	st.stop, st.stopped = stop, make(chan error, 1)
	go func() { st.stopped <- st.agent.Run(running) }()
	// On its first start the agent outdates everything, and once more when the
	// transactions of that moment have ended, which on a user's database may take
	// long. Both belong before the story.
	settled := time.Now().Add(settleLimit)
	for {
		status := st.agent.Status()
		if status.Ready && status.Postgres.Leader && (!status.Postgres.ResetPending || time.Now().After(settled)) {
			break
		}
		select {
		case err := <-st.stopped:
			st.stopped <- err
			return fmt.Errorf("the agent ended while starting: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the agent is not ready: %s: %w", status.NotReady, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
	st.changes = newChanges()
	st.sub, _ = st.agent.Subscribe()
	st.followed = make(chan struct{})
	go func() {
		defer close(st.followed)
		st.changes.follow(st.sub)
	}()
	return nil
}

// close takes everything down that open has set up.
func (st *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	var errs []error
	if st.stop != nil {
		st.stop()
		errs = append(errs, <-st.stopped)
	}
	if st.sub != nil {
		st.sub.Close()
		<-st.followed
	}
	if st.made && st.postgres.Given {
		errs = append(errs, st.unmake(ctx))
	}
	if st.lock != nil {
		errs = append(errs, st.lock.Close(ctx))
	}
	if st.pool != nil {
		st.pool.Close()
	}
	if st.cache != nil {
		errs = append(errs, st.cache.Close())
	}
	if st.client != nil {
		if st.redis.Given {
			errs = append(errs, st.deleteKeys(ctx))
		}
		errs = append(errs, st.client.Close())
	}
	for _, s := range []*servers.Server{st.postgres, st.redis} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// unmake removes the triggers and the films from a database that is not ours.
func (st *stage) unmake(ctx context.Context) error {
	m, err := st.migrator(nil)
	if err != nil {
		return err
	}
	if _, err = m.Down(ctx); err != nil {
		err = fmt.Errorf("remove the triggers: %w", err)
	}
	return errors.Join(err, dropDatabase(ctx, st.pool))
}

// deleteKeys deletes the demo's keys in Redis.
func (st *stage) deleteKeys(ctx context.Context) error {
	keys := st.client.Scan(ctx, 0, st.prefix+"*", 1000).Iterator()
	var found []string
	for keys.Next(ctx) {
		found = append(found, keys.Val())
	}
	if err := keys.Err(); err != nil {
		return fmt.Errorf("find the demo's keys in Redis: %w", err)
	}
	if len(found) == 0 {
		return nil
	}
	if err := st.client.Del(ctx, found...).Err(); err != nil {
		return fmt.Errorf("delete the demo's keys in Redis: %w", err)
	}
	return nil
}
