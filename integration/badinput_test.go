package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const secret = "hunter2-secret"

// TestBadInput: one line on stderr that says what, where and what to do; the
// exit code of the kind of mistake; never a password.
func TestBadInput(t *testing.T) {
	t.Parallel()
	const (
		servers = "postgres: {url: \"postgres://icache:" + secret + "@127.0.0.1:1/app?sslmode=disable\"}\n" +
			"redis: {url: \"redis://:" + secret + "@127.0.0.1:1/0\"}\n" +
			"http: {listen: \"\"}\n"
		rules = "tables:\n  - table: movies\n    tokens: [\"movie:{id}\"]\n"
	)
	tests := map[string]struct {
		config string
		args   []string
		code   int
		want   []string // all of these in the line
	}{
		"unknown key": {
			config: servers + "redsi: {}\n" + rules,
			args:   []string{"check"}, code: 2, want: []string{"icache.yaml:4:1", "redsi", `"redis"`},
		},
		"unknown key in a rule": {
			config: servers + "tables:\n  - table: movies\n    token: [\"movie:{id}\"]\n    tokens: [m]\n",
			args:   []string{"check"}, code: 2, want: []string{"icache.yaml:6:5", "token", `"tokens"`},
		},
		"bad template": {
			config: servers + "tables:\n  - table: movies\n    tokens: [\"movie:{id\"]\n",
			args:   []string{"check"}, code: 2, want: []string{"icache.yaml:6:", "{id"},
		},
		"bare number for a duration": {
			config: servers + strings.Replace(rules, "tokens:", "settle: 3\n    tokens:", 1),
			args:   []string{"check"}, code: 2, want: []string{"icache.yaml:6:", "3s"},
		},
		"bad Postgres URL": {
			config: strings.Replace(servers, "@127.0.0.1:1/app", "@127.0.0.1:port/app", 1) + rules,
			args:   []string{"check"}, code: 2, want: []string{"icache.yaml:1:", "postgres.url"},
		},
		"bad Redis URL": {
			config: strings.Replace(servers, "redis://", "rediz://", 1) + rules,
			args:   []string{"check"}, code: 2, want: []string{"icache.yaml:2:", "redis.url"},
		},
		"no config file": {
			args: []string{"check"}, code: 2, want: []string{"icache.yaml"},
		},
		"unreachable Postgres": {
			config: servers + rules,
			args:   []string{"migrate", "up"}, code: 1, want: []string{"127.0.0.1", "refused"},
		},
		"unreachable Redis": {
			config: servers + rules,
			args:   []string{"bump", "movie:1"}, code: 1, want: []string{"127.0.0.1", "refused"},
		},
		"unknown command": {
			args: []string{"rum"}, code: 2, want: []string{"rum", "run"},
		},
		"unknown flag": {
			args: []string{"check", "--jsn"}, code: 2, want: []string{"--jsn"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "icache.yaml")
			if test.config != "" {
				require.NoError(t, os.WriteFile(path, []byte(test.config), 0o600))
			}
			r := cli(t, append(test.args, "-c", path)...)
			require.Equal(t, test.code, r.code, "%s%s", r.stdout, r.stderr)
			require.Empty(t, r.stdout)
			require.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line: %s", r.stderr)
			for _, want := range test.want {
				require.Contains(t, r.stderr, want)
			}
			require.NotContains(t, r.stdout+r.stderr, secret)
		})
	}
}

// TestUnknownTableOrColumn: what only the live schema can tell.
func TestUnknownTableOrColumn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ rules, want, line string }{
		"table":  {"  - table: moviez\n    tokens: [\"m:{id}\"]\n", "moviez", ":7:"},
		"column": {"  - table: movies\n    tokens: [\"m:{idd}\"]\n", "idd", ":8:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sharedStack(t, test.rules)
			s.exec(t, movieSchema)
			r := cli(t, "migrate", "up", "-c", s.config)
			require.Equal(t, 2, r.code, r.stderr)
			require.Contains(t, r.stderr, "icache.yaml"+test.line)
			require.Contains(t, r.stderr, test.want)
			require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
		})
	}
}
