package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/mapping"
)

// write writes a config and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "icache.yaml")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

// parseFlags returns the flags of a command line.
func parseFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.RegisterFlags(flags)
	flags.Bool("verbose", false, "a flag that is none of ours")
	require.NoError(t, flags.Parse(args))
	return flags
}

// load loads a config that is right.
func load(t *testing.T, content string, environ ...string) (*config.Config, []string) {
	t.Helper()
	cfg, warnings, err := config.Load(config.Options{File: write(t, content), Environ: append([]string{"PATH=/bin"}, environ...)})
	require.NoError(t, err)
	return cfg, warnings
}

func TestLoad(t *testing.T) {
	t.Parallel()

	cfg, warnings := load(t, `
postgres:
  url: postgres://icache:secret@db/app
  schema: cache
  wake: poll
  outbox_limit: 1GB
  lock_timeout: 500ms
redis: {url: "redis://localhost:6379/0", token_key: "shop:1:{token}", absent_tokens: skip, replay_window: 2m}
http: {listen: ""}
log: {level: debug, format: json}
tables:
  - table: movies
    tokens: ["movies", "movie:{id}"]
  - table: public."Odd Name"
    on: [insert, truncate]
    columns: [stars, '"Odd Column"']
    when: stars IS NOT NULL
    tokens: ["odd:{id}"]
    always: true
    max_keys: 10
    settle: 2s
  - {table: users, tokens: [users], settle: replicas}
`)
	require.Empty(t, warnings)
	require.Equal(t, config.Postgres{
		URL: "postgres://icache:secret@db/app", Schema: "cache", Wake: "poll", OutboxLimit: 1 << 30, LockTimeout: 500 * time.Millisecond,
	}, cfg.Postgres)
	require.True(t, cfg.Redis.ForeignReaders(), "tokens that lie where another program has them")
	require.Equal(t, config.Redis{URL: "redis://localhost:6379/0", TokenKey: "shop:1:{token}", AbsentTokens: "skip", Readers: "auto", ReplayWindow: 2 * time.Minute}, cfg.Redis)
	require.Empty(t, cfg.HTTP.Listen)
	require.Equal(t, config.Log{Level: "debug", Format: "json"}, cfg.Log)
	require.NoError(t, cfg.RequirePostgres())
	require.NoError(t, cfg.RequireRedis())

	rules := cfg.Rules()
	require.Len(t, rules, 3)
	require.True(t, rules[2].SettleReplicas)
	require.Zero(t, rules[2].Settle)
	require.Equal(t, "public.movies", rules[0].Table.String())
	require.Equal(t, mapping.Position{File: cfg.File(), Line: 12, Column: 5}, rules[0].Pos)
	require.Equal(t, mapping.Position{File: cfg.File(), Line: 13, Column: 25}, rules[0].At("tokens[1]"))
	require.Equal(t, mapping.Position{File: cfg.File(), Line: 12, Column: 12}, rules[0].At("table"))
	require.Equal(t, rules[0].Pos, rules[0].At("settle"))

	fields := rules[1].Fields
	rules[1].Fields = nil
	require.Equal(t, mapping.Rule{
		Table: mapping.TableName{Schema: "public", Name: "Odd Name"}, On: []mapping.Op{mapping.Insert, mapping.Truncate},
		Columns: []string{"stars", `"Odd Column"`}, When: "stars IS NOT NULL", Tokens: []string{"odd:{id}"},
		MaxKeys: 10, Always: true, Settle: 2 * time.Second, Pos: mapping.Position{File: cfg.File(), Line: 14, Column: 5},
	}, rules[1])
	require.Equal(t, 17, fields["when"].Line)
	m, err := mapping.Compile(rules)
	require.NoError(t, err)
	require.Equal(t, []string{"stars", "Odd Column"}, m.Rules()[1].Rule.Columns)
}

func TestLoad_Defaults(t *testing.T) {
	t.Parallel()

	for _, content := range []string{"", "# nothing\n", "---\n", "postgres:\nredis:\ntables:\n", "{}"} {
		cfg, warnings := load(t, content)
		require.Equal(t, config.Default().Postgres, cfg.Postgres)
		require.Equal(t, config.Default().Redis, cfg.Redis)
		require.Equal(t, config.Default().HTTP, cfg.HTTP)
		require.Equal(t, config.Default().Log, cfg.Log)
		require.Empty(t, cfg.Rules())
		require.Equal(t, []string{"no tables are watched (list them under tables)"}, warnings)
		require.EqualError(t, cfg.RequireRedis(), "no redis.url (set it in "+cfg.File()+", or with ICACHE_REDIS__URL or --redis-url)")
		var bad *config.Error
		require.ErrorAs(t, cfg.RequireRedis(), &bad)
	}
}

func TestLoad_Precedence(t *testing.T) {
	t.Parallel()

	file := write(t, "postgres: {schema: from_file, wake: poll}\nlog: {level: warn, format: json}\nhttp: {listen: ':1'}")
	cfg, _, err := config.Load(config.Options{
		File:    file,
		Environ: []string{"ICACHE_POSTGRES__SCHEMA=from_env", "ICACHE_LOG__LEVEL=error", "ICACHE_POSTGRES__LOCK_TIMEOUT=9s", "ICACHE_POSTGRES__OUTBOX_LIMIT=1GB"},
		Flags:   parseFlags(t, "--log-level=debug", "--http-listen=", "--verbose"),
	})
	require.NoError(t, err)
	require.Equal(t, "debug", cfg.Log.Level, "flag over environment over file")
	require.Equal(t, "from_env", cfg.Postgres.Schema, "environment over file")
	require.Equal(t, "json", cfg.Log.Format, "file over default; a flag that is not given does not count")
	require.Equal(t, "poll", cfg.Postgres.Wake)
	require.Empty(t, cfg.HTTP.Listen, "an empty flag is a value")
	require.Equal(t, 9*time.Second, cfg.Postgres.LockTimeout)
	require.Equal(t, config.Size(1<<30), cfg.Postgres.OutboxLimit)
	require.Equal(t, "create", cfg.Redis.AbsentTokens, "default")

	cfg, _, err = config.Load(config.Options{File: file, Environ: []string{}, Flags: parseFlags(t,
		"--postgres-url=postgres://a@b/c", "--redis-url=redis://r", "--schema=s", "--log-format=text")})
	require.NoError(t, err)
	require.EqualValues(t, "postgres://a@b/c", cfg.Postgres.URL)
	require.EqualValues(t, "redis://r", cfg.Redis.URL)
	require.Equal(t, "s", cfg.Postgres.Schema)
	require.Equal(t, "text", cfg.Log.Format)
}

func TestLoad_File(t *testing.T) {
	t.Chdir(t.TempDir()) // not parallel

	cfg, _, err := config.Load(config.Options{Environ: []string{"ICACHE_REDIS__URL=redis://here"}})
	require.NoError(t, err, "environment alone suffices")
	require.Empty(t, cfg.File())
	require.EqualValues(t, "redis://here", cfg.Redis.URL)

	require.NoError(t, os.WriteFile("icache.yaml", []byte("log: {level: warn}"), 0o600))
	cfg, _, err = config.Load(config.Options{Environ: []string{}})
	require.NoError(t, err)
	require.Equal(t, "icache.yaml", cfg.File())
	require.Equal(t, "warn", cfg.Log.Level)

	require.NoError(t, os.WriteFile("other.yaml", []byte("log: {level: error}"), 0o600))
	cfg, warnings, err := config.Load(config.Options{Environ: []string{"ICACHE_CONFIG=other.yaml"}})
	require.NoError(t, err)
	require.Equal(t, "other.yaml", cfg.File())
	require.Equal(t, "error", cfg.Log.Level)
	require.Len(t, warnings, 1)

	for _, opts := range []config.Options{{File: "missing.yaml"}, {Environ: []string{"ICACHE_CONFIG=missing.yaml"}}} {
		_, _, err = config.Load(opts)
		require.EqualError(t, err, "missing.yaml: cannot read the config: no such file or directory (icache-agent init writes one)")
		var bad *config.Error
		require.ErrorAs(t, err, &bad)
		require.ErrorIs(t, err, os.ErrNotExist)
	}
	_, _, err = config.Load(config.Options{File: "."})
	require.EqualError(t, err, ".: cannot read the config: is a directory")
}

func TestLoad_Environment(t *testing.T) {
	t.Parallel()

	_, warnings := load(t, "tables: [{table: a, tokens: [a]}]",
		"ICACHE_POSTGRES_URL=postgres://x", "ICACHE_NONSENSE=1", "ICACHE_TABLES=movies", "ICACHE_POSTGRES__WEAK=poll", "ICACHE_CONFIG=", "ICACHES=1",
		"ICACHE_PORT=tcp://10.0.0.1:80", "ICACHE_SERVICE_HOST=10.0.0.1", "ICACHE_PORT_80_TCP_ADDR=10.0.0.1", "ICACHE_WEB_SERVICE_PORT_HTTP=80")
	require.Equal(t, []string{
		`unknown environment variable ICACHE_NONSENSE`,
		`unknown environment variable ICACHE_POSTGRES_URL (did you mean "ICACHE_POSTGRES__URL"?)`,
		`unknown environment variable ICACHE_POSTGRES__WEAK (did you mean "ICACHE_POSTGRES__WAKE"?)`,
		`unknown environment variable ICACHE_TABLES`,
		`ignored environment variables of a Kubernetes Service: ICACHE_PORT, ICACHE_PORT_80_TCP_ADDR, ICACHE_SERVICE_HOST, ICACHE_WEB_SERVICE_PORT_HTTP (enableServiceLinks: false in the pod spec keeps them out)`,
	}, warnings)
}

func TestLoad_Doubts(t *testing.T) {
	t.Parallel()

	cfg, warnings := load(t, `
tables:
  - table: movies
    tokens: ["movie:{{id}}", "{{movie}}:{id}", "{kind}:{id}", 'movie-{id}', "*"]
`)
	for i := range warnings {
		warnings[i] = strings.Replace(warnings[i], cfg.File(), "icache.yaml", 1)
	}
	require.Equal(t, []string{
		`icache.yaml:4:15: token "movie:{{id}}" is the text "movie:{id}" itself (for a column write {id})`,
		`icache.yaml:4:49: token "{kind}:{id}" has no group: a bulk change of public.movies outdates the whole cache (begin it with a word and a colon)`,
		`icache.yaml:4:64: token "movie-{id}" has no group: a bulk change of public.movies outdates the whole cache (begin it with a word and a colon)`,
	}, warnings)
}

func TestLoad_Secrets(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg"), []byte("postgres://icache:hunter2@db/app\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "redis"), []byte("redis://:hunter2@cache/0"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o600))
	file := filepath.Join(dir, "icache.yaml")
	require.NoError(t, os.WriteFile(file, []byte("postgres: {url_file: pg}\nredis: {url_file: "+filepath.Join(dir, "redis")+"}"), 0o600))

	cfg, _, err := config.Load(config.Options{File: file, Environ: []string{}})
	require.NoError(t, err, "a relative path starts from the directory of the file")
	require.Equal(t, "postgres://icache:hunter2@db/app", string(cfg.Postgres.URL))
	require.Equal(t, "redis://:hunter2@cache/0", string(cfg.Redis.URL))

	cfg, _, err = config.Load(config.Options{File: file, Environ: []string{"ICACHE_POSTGRES__URL=postgres://other/app", "ICACHE_REDIS__URL_FILE=" + filepath.Join(dir, "redis")}})
	require.NoError(t, err, "a layer above displaces url_file")
	require.EqualValues(t, "postgres://other/app", cfg.Postgres.URL)
	require.Empty(t, cfg.Postgres.URLFile)

	other := write(t, "redis: {url: 'redis://a'}")
	cfg, _, err = config.Load(config.Options{File: other, Environ: []string{"ICACHE_REDIS__URL_FILE=" + filepath.Join(dir, "redis")}})
	require.NoError(t, err, "and url")
	require.Equal(t, "redis://:hunter2@cache/0", string(cfg.Redis.URL))

	_, _, err = config.Load(config.Options{File: other, Environ: []string{
		"ICACHE_POSTGRES__URL_FILE=" + filepath.Join(dir, "gone"), "ICACHE_REDIS__URL_FILE=" + filepath.Join(dir, "empty"),
	}})
	require.EqualError(t, err, strings.Join([]string{
		`ICACHE_POSTGRES__URL_FILE: cannot read postgres.url_file "` + filepath.Join(dir, "gone") + `": no such file or directory`,
		`ICACHE_REDIS__URL_FILE: redis.url_file "` + filepath.Join(dir, "empty") + `" is empty (write the URL into it)`,
	}, "\n"))
}

func TestLoad_SecretTooLong(t *testing.T) {
	t.Parallel()

	_, _, err := config.Load(config.Options{File: write(t, ""), Environ: []string{"ICACHE_REDIS__URL_FILE=/dev/zero"}})
	require.EqualError(t, err, `ICACHE_REDIS__URL_FILE: redis.url_file "/dev/zero" is too long for a URL (write the URL into it, and nothing else)`)
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()

	cfg := config.Default()
	cfg.Postgres.URL = "postgres://icache@localhost/app"
	cfg.Tables = []config.Table{{Table: "movies", Tokens: []string{"movies"}}}
	require.NoError(t, cfg.Validate())
	require.Len(t, cfg.Rules(), 1)
	require.Equal(t, "public.movies", cfg.Rules()[0].Table.String())

	cfg.Log.Level = "loud"
	cfg.Tables = append(cfg.Tables, config.Table{}, config.Table{Table: "people", On: []string{"insrt"}, Tokens: []string{"{"}})
	require.EqualError(t, cfg.Validate(), strings.Join([]string{
		`unknown log.level "loud" (use debug, info, warn or error)`,
		`unknown operation "insrt" (did you mean "insert"?)`,
		`a rule without a table (write table: schema.table)`,
		`a rule without tokens (write tokens: ["movies", "movie:{id}"])`,
		`token "{": unclosed "{" (close it with "}", or write "{{" for a literal brace)`,
	}, "\n"))
}
