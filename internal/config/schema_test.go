package config_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
)

var update = flag.Bool("update", false, "write docs/icache.schema.json")

const (
	schemaFile  = "../../docs/icache.schema.json"
	exampleFile = "../../icache.example.yaml"
)

func TestSchema_IsCurrent(t *testing.T) {
	t.Parallel()

	want, err := config.Schema()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(schemaFile, want, 0o644))
	}
	got, err := os.ReadFile(schemaFile)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run: go test ./internal/config -run TestSchema -update")
}

// node is what the tests need of a JSON Schema.
type node struct {
	Type                 string
	Description          string
	Default              any
	Pattern              string
	Enum                 []string
	Required             []string
	Properties           map[string]*node
	Items                *node
	AdditionalProperties *bool
	Else                 *node
}

func TestSchema_DescribesEverything(t *testing.T) {
	t.Parallel()

	b, err := config.Schema()
	require.NoError(t, err)
	var root node
	require.NoError(t, json.Unmarshal(b, &root))

	keys := 0
	var walk func(path string, n *node)
	walk = func(path string, n *node) {
		keys++
		require.NotEmpty(t, n.Type, path)
		if n.Items != nil && n.Items.Type == "object" {
			n = n.Items
		} else {
			require.NotEmpty(t, n.Description, path)
		}
		if n.Type == "object" {
			require.NotNil(t, n.AdditionalProperties, path)
			require.False(t, *n.AdditionalProperties, path)
		}
		for name, child := range n.Properties {
			walk(path+"."+name, child)
		}
	}
	walk("", &root)
	require.Equal(t, 46, keys)
	tables := root.Properties["tables"].Items
	require.Equal(t, []string{"table"}, tables.Required)
	require.Equal(t, []string{"tokens"}, tables.Else.Required)
	require.Equal(t, []string{"insert", "update", "delete", "truncate"}, tables.Properties["on"].Items.Enum)
	require.Equal(t, "256MB", root.Properties["postgres"].Properties["outbox_limit"].Default)
	require.Equal(t, "2s", root.Properties["postgres"].Properties["lock_timeout"].Default)
	require.Equal(t, []string{"create", "skip"}, root.Properties["redis"].Properties["absent_tokens"].Enum)

	duration := regexp.MustCompile(tables.Properties["settle"].Pattern)
	for _, s := range []string{"0s", "2s", "1h30m", "1.5s", "250µs"} {
		_, err := time.ParseDuration(s)
		require.NoError(t, err)
		require.Regexp(t, duration, s)
	}
	for _, s := range []string{"", "3", "0", "-2s", "2 s", "1d"} {
		require.NotRegexp(t, duration, s)
	}
	size := regexp.MustCompile(root.Properties["postgres"].Properties["outbox_limit"].Pattern)
	for _, s := range []string{"64kB", "256MB", "1GB", "1.5GB", "512MiB", "100B"} {
		_, err := config.ParseSize(s)
		require.NoError(t, err)
		require.Regexp(t, size, s)
	}
	for _, s := range []string{"", "256", "MB", "256M", "-1MB"} {
		_, err := config.ParseSize(s)
		require.Error(t, err, s)
		require.NotRegexp(t, size, s)
	}
}

func TestExample(t *testing.T) {
	t.Parallel()

	content, err := os.ReadFile(exampleFile)
	require.NoError(t, err)
	require.Regexp(t, `^# yaml-language-server: \$schema=docs/icache\.schema\.json\n`, string(content))

	cfg, warnings, err := config.Load(config.Options{File: exampleFile, Environ: []string{}})
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Equal(t, exampleFile, cfg.File())
	require.Len(t, cfg.Rules(), 3)

	// It shows every default.
	want := config.Default()
	want.Postgres.URL, want.Redis.URL = cfg.Postgres.URL, cfg.Redis.URL
	require.Equal(t, want.Postgres, cfg.Postgres)
	require.Equal(t, want.Redis, cfg.Redis)
	require.Equal(t, want.HTTP, cfg.HTTP)
	require.Equal(t, want.Log, cfg.Log)

	// The reference it begins with leads to the schema from where it is.
	_, err = os.Stat(filepath.Join(filepath.Dir(exampleFile), "docs/icache.schema.json"))
	require.NoError(t, err)
}
