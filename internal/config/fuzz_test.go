package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/mapping"
)

// FuzzLoad: any file either loads, and its rules compile, or is an *Error of
// one line for each problem. Nothing panics.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile(exampleFile)
	require.NoError(f, err)
	f.Add(example)
	for _, s := range []string{
		"", "log: {level: info}", "tables:\n- &a {table: a, tokens: [a]}\n- {<<: *a, table: b}\n", "a: &a [*a]", "log: &a {<<: [*a, *a]}",
		"postgres: {url: 'postgres://a:b/c@d'}", "redis: {url: 'redis://a,b'}", "- !!binary aGk=", "? {a: b}\n: c", "log: {level: \"\\u0000\"}", "\xff\xfe", "---\n---\n",
		"tables: [{table: a, tokens: ['x:{a|hsah}', \"\\t{\"], on: [x], max_keys: 99999999999}]", "postgres: {outbox_limit: 1e9GB, lock_timeout: .inf}",
	} {
		f.Add([]byte(s))
	}
	file := filepath.Join(f.TempDir(), "icache.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		require.NoError(t, os.WriteFile(file, content, 0o600))
		cfg, _, err := config.Load(config.Options{File: file, Environ: []string{}})
		if err != nil {
			var bad *config.Error
			require.ErrorAs(t, err, &bad)
			require.NotEmpty(t, bad.Problems)
			require.Len(t, strings.Split(err.Error(), "\n"), len(bad.Problems))
			return
		}
		_, err = mapping.Compile(cfg.Rules())
		require.NoError(t, err)
	})
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"redis://a:b@c/0", "redis-sentinel://a,b/0?master=m", "unix:///x", "postgres://a:b@c,d/e", "host=a password='b c'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u := config.URL(s)
		require.NotEqual(t, s != "", u.String() == "")
		cfg := config.Default()
		cfg.Postgres.URL, cfg.Redis.URL = u, u
		if err := cfg.Validate(); err != nil {
			var bad *config.Error
			require.ErrorAs(t, err, &bad)
		}
	})
}
