package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/internal/config"
)

func TestURL_String(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]string{
		"":                                   "",
		"postgres://icache@db/app":           "postgres://icache@db/app",
		"postgres://icache:hunter2@db/app":   "postgres://icache:xxxxx@db/app",
		"postgres://icache:hunter2@a:1,b:2/": "postgres://icache:xxxxx@a:1,b:2/",
		"postgres://db/app?user=icache&password=hunter2&sslmode=require": "postgres://db/app?sslmode=require&user=icache",
		"redis://:hunter2@cache:6379/0":                                  "redis://:xxxxx@cache:6379/0",
		"redis-sentinel://a:1,b:2/0?master=m&sentinel_password=hunter2":  "redis-sentinel://a:1,b:2/0?master=m",
		"host=db user=icache password=hunter2 dbname=app":                "host=db user=icache dbname=app",
		"host = db password = 'hunter2 host=\\'x' user=icache":           "host=db user=icache",
		"host=db password=hunter 2":                                      "(hidden)",
		"host=db password=a/b://hunter2":                                 "host=db",
		"postgres://db/?password=hunter%":                                "(hidden)",
		"postgres://db/?password=a&hunter2":                              "postgres://db/",
		"password=hunter2":                                               "(hidden)",
		"hunter2":                                                        "(hidden)",
		"postgres://icache:hun/ter2@db/":                                 "(hidden)",
		"postgres://icache:12/ter2@db/":                                  "(hidden)",
		"postgres://icache:12#ter2@db/":                                  "(hidden)",
		"postgres://icache:12?ter2@db/":                                  "(hidden)",
		"redis://:hun%zz@cache":                                          "(hidden)",
	} {
		require.Equal(t, want, config.URL(in).String(), in)
	}
}

func TestURL_NeverShowsThePassword(t *testing.T) {
	t.Parallel()

	cfg := config.Default()
	cfg.Postgres.URL = "postgres://icache:hunter2@db/app"
	cfg.Redis.URL = "redis://:hunter2@cache/0"
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", cfg.Postgres.URL, *cfg)
	}
	fmt.Fprintln(&out, cfg.Redis, cfg.Redacted().Postgres.URL, string(cfg.Redacted().Redis.URL))
	b, err := json.Marshal(cfg)
	require.NoError(t, err)
	out.Write(b)
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("config", "url", cfg.Postgres.URL, "config", cfg, "redis", cfg.Redis)
	}
	require.NotContains(t, out.String(), "hunter2")
	require.NotContains(t, out.String(), fmt.Sprintf("%x", "hunter2"))
	require.Contains(t, out.String(), "postgres://icache:xxxxx@db/app")
	require.Equal(t, "postgres://icache:hunter2@db/app", string(cfg.Postgres.URL), "the original is left alone")
}

// Whatever the password, and however badly it is escaped, nothing shows it.
func TestURL_AnyPassword(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringOfN(rapid.RuneFrom([]rune("SECRETsecret12/?#@:%&=' \\[]")), 4, 12, -1).Draw(t, "password")
		format := rapid.SampledFrom([]string{
			"postgres://icache:%s@db:5432/app", "redis://:%s@cache:6379/0", "redis-cluster://:%s@c:1,d:2", "postgres://db/app?password=%s", "host=db password='%s' user=icache",
		}).Draw(t, "format")
		u := config.URL(fmt.Sprintf(format, password))
		cfg := config.Default()
		cfg.Postgres.URL, cfg.Redis.URL = u, u
		shown := fmt.Sprintf("%v %+v", u, cfg)
		if err := cfg.Validate(); err != nil {
			shown += err.Error()
		}
		for i := range len(password) - 3 {
			part := password[i : i+4]
			if strings.ContainsAny(part, "SECRT") { // upper case is in nothing else
				require.NotContains(t, shown, part)
			}
		}
	})
}

func TestSize(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]config.Size{
		"0MB": 0, "100B": 100, "64kB": 64 << 10, "64 KB": 64 << 10, "1.5GB": 3 << 29, "2TiB": 2 << 40, "256MB": 256 << 20,
	} {
		got, err := config.ParseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
		again, err := config.ParseSize(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for _, in := range []string{"", "1", "MB", "-1MB", "1e3MB", "0x1MB", "1PB", "9999999999TB", "NaNMB", "Inf B", "1iB2"} {
		_, err := config.ParseSize(in)
		require.Error(t, err, in)
	}
	require.Equal(t, "0B", config.Size(0).String())
	require.Equal(t, "1536MB", config.Size(3<<29).String())
}
