package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBadInput: one line that says what, where and what to do, the exit code of
// the kind of mistake, and never a password.
func TestBadInput(t *testing.T) {
	t.Parallel()
	const (
		postgres = "postgres: {url: \"postgres://icache:" + secret + "@127.0.0.1:1/app?sslmode=disable\"}\n"
		redis    = "redis: {url: \"redis://:" + secret + "@127.0.0.1:1/0\"}\n"
		rules    = "tables:\n  - table: movies\n    tokens: [\"movie:{id}\"]\n"
		fine     = postgres + redis + "http: {listen: \"127.0.0.1:1\"}\n" + rules
	)
	tests := map[string]struct {
		config string
		args   string
		code   int
		want   []string // all of these in the line
	}{
		"unknown key":          {redis + "tablez: []\n", "check", 2, []string{"icache.yaml:2:1: ", "tablez", `did you mean "tables"?`}},
		"unknown key in rule":  {rules + "    colums: [x]\n", "check", 2, []string{"icache.yaml:4:5: ", "colums", `"columns"`}},
		"bad template":         {strings.Replace(rules, "{id}", "{id", 1), "check", 2, []string{"icache.yaml:3:"}},
		"bad YAML":             {"tables: [\n", "check", 2, []string{"icache.yaml:"}},
		"duration, no unit":    {"postgres: {lock_timeout: 3}\n", "check", 2, []string{"icache.yaml:1:", "3s"}},
		"bad Postgres URL":     {strings.Replace(postgres, ":1/", ":port/", 1), "check", 2, []string{"icache.yaml:1:", "postgres.url", "(write "}},
		"slash in password":    {strings.Replace(postgres, secret, secret+"/x#y", 1), "check", 2, []string{"icache.yaml:1:", "percent-encoded"}},
		"bad Redis URL":        {strings.Replace(redis, "redis:/", "rediz:/", 1), "check", 2, []string{"icache.yaml:1:", "redis.url", "(write "}},
		"file not there":       {"", "check", 2, []string{"icache.yaml", "icache-agent init"}},
		"no Postgres":          {redis + rules, "run", 2, []string{"postgres.url", "ICACHE_POSTGRES__URL"}},
		"no Redis":             {postgres + rules, "run", 2, []string{"redis.url", "ICACHE_REDIS__URL"}},
		"no Redis, bump":       {postgres + rules, "bump movies", 2, []string{"redis.url", "ICACHE_REDIS__URL"}},
		"Postgres unreachable": {fine, "migrate up", 1, []string{"127.0.0.1", "refused", "(check postgres.url"}},
		"Redis unreachable":    {fine, "get movies", 1, []string{"127.0.0.1", "refused", "(check redis.url"}},
		"agent unreachable":    {fine, "status", 1, []string{"127.0.0.1:1", "refused", "is it running"}},
		"agent not healthy":    {fine, "healthcheck", 1, []string{"127.0.0.1:1", "refused"}},
		"no http":              {strings.Replace(fine, "127.0.0.1:1\"}\nt", "\"}\nt", 1), "status", 2, []string{"http.listen"}},
		"unknown command":      {fine, "rum", 2, []string{`"rum"`, `"run"`}},
		"unknown subcommand":   {fine, "migrate upp", 2, []string{`"upp"`, `"up"`}},
		"unknown flag":         {fine, "check --jsn", 2, []string{"--jsn", "check --help"}},
		"stray argument":       {fine, "check now", 2, []string{`"now"`}},
		"get nothing":          {fine, "get", 2, []string{"token"}},
		"bump nothing":         {fine, "bump", 2, []string{"--table", "--all"}},
		"bump too much":        {fine, "bump --all movies", 2, []string{"--table", "--all"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "icache.yaml")
			if test.config != "" {
				require.NoError(t, os.WriteFile(path, []byte(test.config), 0o600))
			}
			r := agentCLI(t, append(strings.Fields(test.args), "-c", path)...)
			require.Equal(t, test.code, r.code, "%s%s", r.stdout, r.stderr)
			require.Empty(t, r.stdout)
			require.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line: %s", r.stderr)
			require.True(t, strings.HasPrefix(r.stderr, "icache-agent: "), r.stderr)
			for _, want := range test.want {
				require.Contains(t, r.stderr, want)
			}
		})
	}
}

// TestSeveralMistakes: all are told at once, each on its line.
func TestSeveralMistakes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "icache.yaml")
	require.NoError(t, os.WriteFile(path, []byte("redsi: {}\ntables:\n  - table: a\n    tokens: [\"{x\"]\n"), 0o600))
	r := agentCLI(t, "check", "-c", path)
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, 2, strings.Count(r.stderr, "\n"), r.stderr)
	require.Contains(t, r.stderr, ":1:1: ")
	require.Contains(t, r.stderr, ":4:")
}

// TestUnknownVariable: other programs may set such variables, so only a warning.
func TestUnknownVariable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "icache.yaml")
	require.NoError(t, os.WriteFile(path, []byte("tables: []\n"), 0o600))
	r := agentCLIEnv(t, []string{"ICACHE_POSTGRES__URI=" + secret}, "check", "-c", path)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, "warning: ")
	require.Contains(t, r.stderr, "ICACHE_POSTGRES__URI")
}
