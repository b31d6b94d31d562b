package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
)

func TestLoad_Mistakes(t *testing.T) {
	t.Parallel()

	const (
		pgHint    = " (write postgres://user@host:5432/database, with special characters in the password percent-encoded, or put it into url_file or PGPASSWORD)"
		redisHint = " (write redis://host:6379/0, redis-cluster://host1,host2 or redis-sentinel://host1,host2/0?master=name, with special characters in the password percent-encoded, or put it into url_file)"
	)
	for name, tt := range map[string]struct {
		yaml string
		want []string // without the file; it is put before lines that begin with a colon
	}{
		"unknown keys": {
			"redis:\n  timeot: 3s\n  tokn_key: x\ntable: []\nschema: x\nnonsense: 1\n",
			[]string{
				`:2:3: unknown key "timeot" in redis (known keys: url, url_file, token_key, absent_tokens, readers, replay_window, lease, wait_replicas)`,
				`:3:3: unknown key "tokn_key" in redis (did you mean "token_key"?)`,
				`:4:1: unknown key "table" (did you mean "tables"?)`,
				`:5:1: unknown key "schema" (it belongs into postgres)`,
				`:6:1: unknown key "nonsense" (known keys: postgres, redis, http, log, cdn, tables)`,
			},
		},
		"keys are case-sensitive": {"Log: {level: info}", []string{`:1:1: unknown key "Log" (did you mean "log"?)`}},
		"unknown key in a rule": {
			"tables:\n  - table: movies\n    token: [movies]\n    tokens: [movies]\n",
			[]string{`:3:5: unknown key "token" in tables[0] (did you mean "tokens"?)`},
		},
		"repeated key": {
			"log:\n  level: info\n  level: warn\nlog: {}\n",
			[]string{`:3:3: key "level" again, first on line 2 (keep one)`, `:4:1: key "log" again, first on line 1 (keep one)`},
		},
		"bare number for a duration": {
			"postgres: {lock_timeout: 1.5}\nredis: {replay_window: 0}\ntables: [{table: a, tokens: [a], settle: '7'}]",
			[]string{
				`:1:26: postgres.lock_timeout is a number without a unit: 1.5 (write 1.5s for seconds, 1.5ms for milliseconds)`,
				`:2:24: redis.replay_window is a number without a unit: 0 (write 0s)`,
				`:3:42: tables[0].settle is a number without a unit: 7 (write 7s for seconds, 7ms for milliseconds, or replicas)`,
			},
		},
		"not a duration": {
			"postgres: {lock_timeout: 1d}\nredis: {replay_window: -1s}\ntables: [{table: a, tokens: [a], settle: 7d}]",
			[]string{
				`:1:26: postgres.lock_timeout is not a duration: "1d" (write a number with a unit: 500ms, 2s, 5m, 1h30m)`,
				`:2:24: redis.replay_window is negative: "-1s" (use a duration from 0s up)`,
				`:3:42: tables[0].settle is not a duration: "7d" (write a number with a unit: 500ms, 2s, 5m, 1h30m, or replicas)`,
			},
		},
		"a lease that cannot be renewed in time": {
			"redis: {lease: 200ms, wait_replicas: -1}",
			[]string{
				`:1:16: redis.lease is 200ms, too short to be renewed in time (write 5s, or 0s for none)`,
				`:1:38: redis.wait_replicas is -1 (use a number from 0 up)`,
			},
		},
		"no lock timeout": {
			"postgres: {lock_timeout: 0s}",
			[]string{`:1:26: postgres.lock_timeout is 0, which waits for ever and makes the application wait too (write 2s)`},
		},
		"not a size": {
			"postgres:\n  outbox_limit: 256\n",
			[]string{`:2:17: postgres.outbox_limit is not a size with a unit: "256" (write it as Postgres does: 64kB, 256MB, 1GB)`},
		},
		"wrong types": {
			"postgres: {schema: 12, wake: true, url: [a], url_file: }\nredis: movies\nhttp: {listen: 9180}\nlog: [info]\ntables: {table: movies}\n",
			[]string{
				`:1:20: postgres.schema must be a text, not a number (put it in quotes: "12")`,
				`:1:30: postgres.wake must be a text, not true or false (put it in quotes: "true")`,
				`:1:41: postgres.url must be a single value, not a list`,
				`:1:56: postgres.url_file has no value (write one, or remove the key)`,
				`:2:8: redis must be keys with values, not a text (known keys: url, url_file, token_key, absent_tokens, readers, replay_window, lease, wait_replicas)`,
				`:3:16: http.listen must be a text, not a number (put it in quotes: "9180")`,
				`:4:6: log must be keys with values, not a list (known keys: level, format)`,
				`:5:9: tables must be a list, not keys with values (begin each item with a dash)`,
			},
		},
		"bad patterns": {
			`tables:
  - {table: "public.*", columns: [a], when: a}
  - {table: "shop.log *"}
  - {table: "shop.*", exclude: ["public.x", "log_*", 'a b', "shop.y"], settle: 2}
  - {table: movies, tokens: [movies], exclude: [x]}
`,
			[]string{
				`:2:34: columns in a rule for many tables, "public.*" (tokens come from the primary key and the foreign keys of each; write a rule of its own for a table that needs columns)`,
				`:2:45: when in a rule for many tables, "public.*" (tokens come from the primary key and the foreign keys of each; write a rule of its own for a table that needs when)`,
				`:3:14: table "shop.log *" is not a name with wildcards (a name with wildcards is letters, digits, _, $, -, * and ?, without quotes: public.log_*)`,
				`:4:34: excluded table "public.x" is not in schema shop (leave it out, nothing of that schema is watched here)`,
				`:4:56: table "a b": unexpected " " (write table or schema.table, odd names in double quotes: public."Odd Name")`,
				`:4:80: tables[2].settle is a number without a unit: 2 (write 2s for seconds, 2ms for milliseconds, or replicas)`,
				`:5:48: exclude in a rule for one table (it goes with wildcards, as in table: "public.*")`,
			},
		},
		"wrong types in a rule": {
			"tables:\n- table: movies\n  tokens: movies\n  on: insert\n  always: yes\n  max_keys: many\n- movies\n- table: b\n  tokens: [1, {a: b}, ~]\n  max_keys: 1.5\n  always: 1\n  when: 2026-01-01\n",
			[]string{
				`:3:11: tables[0].tokens must be a list, not a text (write ["movies"])`,
				`:4:7: tables[0].on must be a list, not a text (write ["insert"])`,
				`:5:11: tables[0].always must be true or false, not a text (use true or false)`,
				`:6:13: tables[0].max_keys must be a whole number, not a text (use a number from 1 up)`,
				`:7:3: tables[1] must be keys with values, not a text (known keys: table, exclude, on, columns, when, tokens, always, max_keys, settle)`,
				`:9:12: tables[2].tokens[0] must be a text, not a number (put it in quotes: "1")`,
				`:9:15: tables[2].tokens[1] must be a single value, not keys with values`,
				`:9:23: tables[2].tokens[2] has no value (write one, or remove the key)`,
				`:10:13: tables[2].max_keys must be a whole number, not a number (use a number from 1 up)`,
				`:11:11: tables[2].always must be true or false, not a number (use true or false)`,
				`:12:9: tables[2].when must be a text, not a date (put it in quotes: "2026-01-01")`,
			},
		},
		"template without quotes": {
			"tables:\n- table: a\n  tokens:\n  - {id}\n",
			[]string{`:4:5: tables[0].tokens[0] must be a single value, not keys with values`},
		},
		"unknown words": {
			"postgres: {wake: dorbell}\nredis: {absent_tokens: make}\nlog: {level: warning, format: JSON}\ntables: [{table: a, on: [insert, upsert, TRUNCATE], tokens: [a]}]",
			[]string{
				`:1:18: unknown postgres.wake "dorbell" (did you mean "doorbell"?)`,
				`:2:24: unknown redis.absent_tokens "make" (use create or skip)`,
				`:3:14: unknown log.level "warning" (did you mean "warn"?)`,
				`:3:31: unknown log.format "JSON" (did you mean "json"?)`,
				`:4:34: unknown operation "upsert" (did you mean "insert"?)`,
				`:4:42: unknown operation "TRUNCATE" (did you mean "truncate"?)`,
			},
		},
		"bad templates": {
			"tables:\n- table: a\n  tokens:\n  - \"größe:{id\"\n  - 'x:{mail|hsah}'\n  - plain{doc.lang}\n  - \"tab\\t:{id\"\n  - >-\n    folded:{\n",
			[]string{
				`:4:12: token "größe:{id": unclosed "{" (close it with "}", or write "{{" for a literal brace)`,
				`:5:14: token "x:{mail|hsah}": unknown modifier "hsah" (did you mean "hash"?)`,
				`:6:14: token "plain{doc.lang}": unexpected "." in a placeholder (write {doc->>'key'} for a JSON field, {doc->table.column} to follow a foreign key; columns are those of the rule's table)`,
				`:7:5: token "tab\t:{id": control character '\t' in a template (remove it)`,
				`:8:5: token "folded:{": unclosed "{" (close it with "}", or write "{{" for a literal brace)`,
			},
		},
		"misspelt keys are not missing ones": {
			"tables:\n- table: a\n  token: [a]\n- tabel: b\n  tokens: [b]\n- table: c\n",
			[]string{
				`:3:3: unknown key "token" in tables[0] (did you mean "tokens"?)`,
				`:4:3: unknown key "tabel" in tables[1] (did you mean "table"?)`,
				`:6:3: a rule without tokens (write tokens: ["movies", "movie:{id}"])`,
			},
		},
		"bad rules": {
			"tables:\n- tokens: [a]\n- table: a\n- table: b\n  tokens: []\n- table: public.b\n  tokens: [b, b]\n- table: shop.*\n  tokens: [c]\n- table: icache.outbox_0\n  tokens: [d]\n- {table: e, tokens: [e], max_keys: 0}\n- {table: f, tokens: [f], columns: [a b], max_keys: -1}\n",
			[]string{
				`:2:3: a rule without a table (write table: schema.table)`,
				`:3:3: a rule without tokens (write tokens: ["movies", "movie:{id}"])`,
				`:5:11: a rule without tokens (write tokens: ["movies", "movie:{id}"])`,
				`:6:10: a second rule for table public.b, the first is at FILE:4:10 (put the tokens of both into one rule)`,
				`:7:15: token "b" listed twice (remove one)`,
				`:9:11: tokens in a rule for many tables, "shop.*" (tokens come from the primary key and the foreign keys of each; write a rule of its own for a table that needs tokens)`,
				`:10:10: table icache.outbox_0 is in the schema that icache keeps its own objects in (watch tables of other schemas)`,
				`:12:37: max_keys is 0 (use a number from 1 up, or leave it out for 1000)`,
				`:13:38: column "a b": unexpected " " (write one column, odd names in double quotes: "Odd Name")`,
				`:13:53: max_keys is -1 (use a number from 1 up, or leave it out for 1000)`,
			},
		},
		"bad settings": {
			"postgres: {schema: pg_cache}\nredis: {token_key: 'icache:'}\nhttp: {listen: localhost}\n",
			[]string{
				`:1:20: postgres.schema begins with pg_, which Postgres keeps for itself (write icache)`,
				`:2:21: redis.token_key "icache:" does not hold {token} once (write "icache:t:{token}")`,
				`:3:16: http.listen is not host:port: "localhost" (write 127.0.0.1:9180, or :9180 for every interface)`,
			},
		},
		"empty and impossible settings": {
			"postgres: {schema: ''}\nredis: {token_key: '{token}{token}'}\nhttp: {listen: ':99999'}\n",
			[]string{
				`:1:21: postgres.schema is empty (write icache)`,
				`:2:21: redis.token_key "{token}{token}" does not hold {token} once (write "icache:t:{token}")`,
				`:3:17: http.listen is not host:port: ":99999" (write 127.0.0.1:9180, or :9180 for every interface)`,
			},
		},
		"bad URLs": {
			"postgres: {url: 'mysql://root:hunter2@db/app'}\nredis: {url: 'localhost:6379'}\n",
			[]string{`:1:18: postgres.url is not a Postgres URL` + pgHint, `:2:15: redis.url is not a Redis URL` + redisHint},
		},
		"password with a slash": {
			"postgres: {url: 'postgres://icache:hun/ter2@db/app'}\nredis: {url: 'redis://:hun/ter2@cache/0'}\n",
			[]string{`:1:18: postgres.url is not a valid URL` + pgHint, `:2:15: redis.url is not a valid URL` + redisHint},
		},
		"password that looks like a port": {
			"postgres: {url: 'postgres://icache:12/ter2@db/app'}\nredis: {url: 'redis://icache:12#ter2@cache/0'}\n",
			[]string{`:1:18: postgres.url is not a valid URL` + pgHint, `:2:15: redis.url is not a valid URL` + redisHint},
		},
		"URL with a file that is not there": {
			"postgres: {url: 'postgres://icache:hunter2@db/app?sslmode=verify-full&sslrootcert=/nonexistent/ca'}",
			[]string{`:1:18: postgres.url names a file that cannot be read: open /nonexistent/ca: no such file or directory`},
		},
		"URL option that is not known": {
			"redis: {url: 'redis://:hunter2@cache/0?retries=3'}",
			[]string{`:1:15: redis.url is not valid: unexpected option: retries` + redisHint},
		},
		"both url and url_file": {
			"redis:\n  url: redis://a\n  url_file: /run/secrets/redis\n",
			[]string{`:3:13: both redis.url and redis.url_file (keep one)`},
		},
		"not YAML": {
			"log:\n  level: info\n format: text\n",
			[]string{`:2: not valid YAML: did not find expected key (check the indentation from here on, and put a value with { } [ ] : # or " in it into quotes)`},
		},
		"tab": {
			"log:\n\tlevel: info\n",
			[]string{`:2: not valid YAML: found character that cannot start any token (check the indentation from here on, and put a value with { } [ ] : # or " in it into quotes)`},
		},
		"two documents":    {"log: {}\n---\nlog: {}\n", []string{`:2:1: a second document (a config is one document; remove the "---")`}},
		"not a mapping":    {"- a\n", []string{`:1:1: the config must be keys with values, not a list (known keys: postgres, redis, http, log, cdn, tables)`}},
		"unknown anchor":   {"log: *x\n", []string{`: not valid YAML: unknown anchor 'x' referenced`}},
		"key of two words": {"{a: b}: c\n", []string{`:1:1: a key must be a word, not keys with values`}},
		"bad merge":        {"log:\n  <<: info\n", []string{`:2:7: << must be followed by an alias of a mapping (write the keys out)`}},
		"merge of itself":  {"log: &x\n  <<: *x\n  level: info\n", []string{`:2:7: merges nested too deep (write the keys out)`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			file := write(t, tt.yaml)
			cfg, _, err := config.Load(config.Options{File: file, Environ: []string{}})
			require.Error(t, err)
			require.Nil(t, cfg)
			var bad *config.Error
			require.ErrorAs(t, err, &bad)
			want := "icache.yaml" + strings.Join(tt.want, "\nicache.yaml")
			require.Equal(t, strings.ReplaceAll(want, "FILE", "icache.yaml"), strings.ReplaceAll(err.Error(), file, "icache.yaml"))
			for _, secret := range []string{"hunter2", "ter2", "hun/"} {
				require.NotContains(t, err.Error(), secret)
			}
		})
	}
}

func TestLoad_MistakesElsewhere(t *testing.T) {
	t.Parallel()

	file := write(t, "log: {level: loud}\nhttp: {listen: x}")
	_, _, err := config.Load(config.Options{
		File: file,
		Environ: []string{
			"ICACHE_POSTGRES__LOCK_TIMEOUT=3", "ICACHE_POSTGRES__URL=mysql://a:hunter2@b", "ICACHE_REDIS__URL=redis://a", "ICACHE_REDIS__URL_FILE=/x",
		},
		Flags: parseFlags(t, "--log-level", "dbug"),
	})
	require.EqualError(t, err, strings.Join([]string{
		file + `:2:16: http.listen is not host:port: "x" (write 127.0.0.1:9180, or :9180 for every interface)`,
		`ICACHE_POSTGRES__LOCK_TIMEOUT: postgres.lock_timeout is a number without a unit: 3 (write 3s for seconds, 3ms for milliseconds)`,
		`ICACHE_REDIS__URL_FILE: both redis.url and redis.url_file (keep one)`,
		`--log-level: unknown log.level "dbug" (did you mean "debug"?)`,
		`ICACHE_POSTGRES__URL: postgres.url is not a Postgres URL (write postgres://user@host:5432/database, with special characters in the password percent-encoded, or put it into url_file or PGPASSWORD)`,
	}, "\n"))
}

func TestLoad_Aliases(t *testing.T) {
	t.Parallel()

	cfg, _ := load(t, `
tables:
  - &defaults
    table: a
    on: &writes [insert, update]
    tokens: [a]
  - {<<: *defaults, table: b, settle: 1s}
  - table: c
    on: *writes
    tokens: [c]
`)
	require.Len(t, cfg.Rules(), 3)
	require.Equal(t, "public.b", cfg.Rules()[1].Table.String())
	require.Equal(t, []string{"a"}, cfg.Rules()[1].Tokens)
	require.Equal(t, cfg.Rules()[0].On, cfg.Rules()[2].On)

	// A tree that would be expanded into billions of keys.
	bomb := "log: {}\ntables:\n- &a {table: a, tokens: [a]}\n"
	for i := range 9 {
		prev, next := string(rune('a'+i)), string(rune('b'+i))
		bomb += "- &" + next + " {<<: [" + strings.Repeat("*"+prev+", ", 20) + "*" + prev + "]}\n"
	}
	_, _, err := config.Load(config.Options{File: write(t, bomb), Environ: []string{}})
	require.ErrorContains(t, err, "too many values, or aliases that multiply")
}
