package config

import (
	"os"
	"slices"
	"time"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
)

// Config is the whole configuration. Make one with [Load], or fill in
// [Default] and call [Config.Validate].
type Config struct {
	Postgres Postgres `koanf:"postgres" doc:"The database that is watched."`
	Redis    Redis    `koanf:"redis" doc:"The Redis, Valkey or compatible server that holds the tokens."`
	HTTP     HTTP     `koanf:"http" doc:"Status page, metrics and health."`
	Log      Log      `koanf:"log" doc:"The agent's log, on standard error."`
	CDN      []CDN    `koanf:"cdn" doc:"CDNs and HTTP caches at which pages are purged, by keys, after their tokens were bumped."`
	Tables   []Table  `koanf:"tables" doc:"One rule for each table that is watched."`

	file  string
	rules []mapping.Rule

	patterns []Pattern
}

// Postgres is the section postgres.
type Postgres struct {
	URL          URL           `koanf:"url" doc:"Connection URL, postgres://user@host:5432/database?sslmode=require, or a libpq string, host=db user=icache. Several hosts may be listed. The PG* environment variables fill in what is left out. Connect to the server itself, not through a transaction pooler."`
	URLFile      string        `koanf:"url_file" doc:"File that holds the connection URL, for a secret; in place of url. A relative path starts from the directory of this file."`
	Schema       string        `koanf:"schema" doc:"Schema that holds the objects of icache."`
	Wake         string        `koanf:"wake" jsonschema:"enum=auto,enum=doorbell,enum=poll" doc:"How the agent learns of changes: doorbell (NOTIFY while it sleeps), poll, or auto, which polls only where max_prepared_transactions > 0."`
	OutboxLimit  Size          `koanf:"outbox_limit" doc:"Size past which triggers stop recording while no agent runs; the whole cache is outdated when one comes back. 0MB means no limit. Takes effect with migrate up."`
	LockTimeout  time.Duration `koanf:"lock_timeout" doc:"How long a migration waits for a lock on a busy table before it gives up."`
	AgentRole    string        `koanf:"agent_role" doc:"Role that the agent connects as. migrate up grants it what it needs; the role has to exist. Left out, the agent has to connect as the owner of the objects or as a superuser."`
	EventTrigger bool          `koanf:"event_trigger" doc:"Event triggers too, which see what triggers on tables cannot: partitions attached and detached, tables dropped, values rewritten by ALTER TABLE. Only a superuser can create them. Takes effect with migrate up."`
	WriterRole   string        `koanf:"writer_role" doc:"Role that owns the trigger functions and may do nothing but write the outbox; migrate up creates it if it may. Left out, it is the name of the schema with _writer."`
}

// Redis is the section redis.
type Redis struct {
	URL          URL           `koanf:"url" doc:"redis://user:password@host:6379/0, rediss:// for TLS, unix:///path for a socket, redis-cluster://host1:6379,host2:6379 or redis-sentinel://host1:26379,host2:26379/0?master=name (rediss-cluster and rediss-sentinel for TLS). Options such as ?dial_timeout=2s are those of go-redis."`
	URLFile      string        `koanf:"url_file" doc:"File that holds the URL, for a secret; in place of url. A relative path starts from the directory of this file."`
	TokenKey     string        `koanf:"token_key" doc:"Redis key of a token; {token} stands for the token."`
	AbsentTokens string        `koanf:"absent_tokens" jsonschema:"enum=create,enum=skip" doc:"What a bump does to a token that is not in Redis: create it (right for every reader) or skip it (only if all readers create the tokens that they depend on, as the library does)."`
	Readers      string        `koanf:"readers" jsonschema:"enum=auto,enum=icache,enum=any" doc:"Who reads the tokens: icache, which stands for readers that know group tokens and the generation, as the library does; or any, such as a Django site. For the latter a bulk change bumps each token of its groups that is there, which takes a scan of all keys. auto is any where token_key is not the default."`
	ReplayWindow time.Duration `koanf:"replay_window" doc:"After a failover or restart of Redis, what was bumped within this time is bumped again. 0s means nothing is."`
	Lease        time.Duration `koanf:"lease" doc:"How long the lease of the guard lasts, which the agent renews as long as changes get through. Caches made with icache.WithGuard serve nothing later than this after the commit that outdated it, even with the agent killed or cut off. 0s means no lease; such caches then serve nothing."`
	WaitReplicas int           `koanf:"wait_replicas" doc:"Replicas of Redis that must have a bump before it counts as acknowledged (WAIT). Changes wait while there are fewer. In a Cluster, of each master."`
}

// HTTP is the section http.
type HTTP struct {
	Listen string `koanf:"listen" doc:"Address, host:port, of the status page, /metrics, /livez and /readyz. Empty means none."`
}

// Log is the section log.
type Log struct {
	Level  string `koanf:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error" doc:"Least level that is logged."`
	Format string `koanf:"format" jsonschema:"enum=text,enum=json" doc:"text for people, json for machines."`
}

// Table is an item of the list tables: a rule as it is written.
type Table struct {
	Table   string   `koanf:"table" jsonschema:"required" doc:"Table, as schema.table; the schema is public if left out. Names are taken as written; odd ones go in double quotes: 'public.\"Odd Name\"'. With the wildcards * and ?, as in public.*, the rule is for all tables that match and have no rule of their own, and their tokens come from their keys: movies, movies:{id}, genres:{genre_id}."`
	Exclude []string `koanf:"exclude" doc:"With wildcards in table: tables that are left out, by name, wildcards allowed."`
	On      []string `koanf:"on" jsonschema:"enum=insert,enum=update,enum=delete,enum=truncate" doc:"Operations that count. Default: all."`
	Columns []string `koanf:"columns" doc:"Columns whose change counts, besides those in tokens. Default: every column."`
	When    string   `koanf:"when" doc:"SQL condition over the row; rows for which it holds neither before nor after the change do not count."`
	Tokens  []string `koanf:"tokens" doc:"Templates of the tokens that a change outdates: movies, movie:{id}, tag:{tags[]}, lang:{doc->>'lang'}, user:{email|hash}, genre:{movie_id->movies.genre_id}. {{ and }} are literal braces."`
	Always  bool     `koanf:"always" doc:"Fire on a logical-replication subscriber too."`
	MaxKeys int      `koanf:"max_keys" doc:"Distinct keys in one statement above which group tokens are bumped instead. Default: 1000."`
	Settle  Settle   `koanf:"settle" doc:"Bump once more after this time, for readers of a replica that lags, or replicas: when every standby that streams from the server has replayed the change. Default: 0s, never."`
}

// Default returns the configuration before any layer is read.
func Default() *Config {
	return &Config{
		Postgres: Postgres{
			Schema:      outbox.DefaultSchema,
			Wake:        "auto",
			OutboxLimit: 256 << 20,
			LockTimeout: 2 * time.Second,
		},
		Redis: Redis{
			TokenKey:     defaultTokenKey,
			AbsentTokens: "create",
			Readers:      "auto",
			ReplayWindow: time.Minute,
		},
		HTTP: HTTP{Listen: "127.0.0.1:9180"},
		Log:  Log{Level: "info", Format: "text"},
	}
}

const defaultTokenKey = "icache:t:{token}"

// ForeignReaders reports whether there are readers that know neither group
// tokens nor the generation.
func (r Redis) ForeignReaders() bool {
	return r.Readers == "any" || r.Readers == "auto" && r.TokenKey != defaultTokenKey
}

// File returns the path of the file that was read, "" if there was none.
func (c *Config) File() string { return c.file }

// Rules returns the rules for [mapping.Compile], with their positions, but for
// those of [Config.Patterns]. They compile: [Load] and [Config.Validate] have seen to it.
func (c *Config) Rules() []mapping.Rule { return c.rules }

// Redacted returns a copy without passwords.
func (c *Config) Redacted() *Config {
	redacted := *c
	redacted.Postgres.URL = URL(c.Postgres.URL.String())
	redacted.Redis.URL = URL(c.Redis.URL.String())
	redacted.CDN = slices.Clone(c.CDN)
	for i := range redacted.CDN {
		redacted.CDN[i].URL, redacted.CDN[i].token = URL(c.CDN[i].URL.String()), ""
	}
	return &redacted
}

// RequirePostgres returns an error if nothing says which database to connect
// to: neither the configuration nor the environment variables of libpq.
func (c *Config) RequirePostgres() error {
	if c.Postgres.URL != "" {
		return nil
	}
	for _, name := range []string{"PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"} {
		if os.Getenv(name) != "" {
			return nil
		}
	}
	return c.missing("postgres.url", "ICACHE_POSTGRES__URL or --postgres-url")
}

// RequireRedis returns an error if nothing says which Redis to connect to.
func (c *Config) RequireRedis() error {
	if c.Redis.URL != "" {
		return nil
	}
	return c.missing("redis.url", "ICACHE_REDIS__URL or --redis-url")
}

func (c *Config) missing(key, otherwise string) error {
	file := c.file
	if file == "" {
		file = DefaultFile
	}
	return &Error{Problems: []*mapping.Error{{Msg: "no " + key, Hint: "set it in " + file + ", or with " + otherwise}}}
}
