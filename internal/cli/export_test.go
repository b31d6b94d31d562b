package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/migrations"
)

func TestMigrateExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	for _, format := range migrations.Formats() {
		dir := filepath.Join(w.dir, string(format))
		out := decode[exportOut](t, w.ok(t, "migrate", "export", "--format", string(format), "--dir", dir, "--json"))
		require.NotEmpty(t, out.Files)
		for _, f := range out.Files {
			content, err := os.ReadFile(f.Path)
			require.NoError(t, err)
			require.Equal(t, f.Content, string(content))
			require.Equal(t, dir, filepath.Dir(f.Path))
		}
	}
	entries, err := os.ReadDir(filepath.Join(w.dir, "sql"))
	require.NoError(t, err)
	require.Len(t, entries, 2)

	r := w.run(t, "migrate", "export", "--format", "sql", "--dir", filepath.Join(w.dir, "sql"))
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "--force")
	w.ok(t, "migrate", "export", "--format", "sql", "--dir", filepath.Join(w.dir, "sql"), "--force")
	printed := w.ok(t, "migrate", "export", "--format", "tern", "--dir", filepath.Join(w.dir, "tern"), "--name", "more")
	require.Equal(t, filepath.Join(w.dir, "tern", "002_more.sql")+"\n", printed)

	up, down := w.ok(t, "migrate", "export", "--format", "sql"), w.ok(t, "migrate", "export", "--format", "sql", "--down")
	require.Contains(t, up, "CREATE SCHEMA")
	require.NotContains(t, up, "DROP SCHEMA")
	require.Contains(t, down, "DROP SCHEMA")

	for name, args := range map[string][]string{
		"none": nil, "unknown": {"--format", "gooze"}, "no file of its own": {"--format", "goose", "--down"},
	} {
		r := w.run(t, append([]string{"migrate", "export"}, args...)...)
		require.Equal(t, exitUsage, r.code, name)
		require.Empty(t, r.stdout)
		require.Contains(t, r.stderr, "(", "a hint")
	}

	w.ok(t, "migrate", "up")
	r = w.run(t, "migrate", "export", "--format", "goose")
	require.Equal(t, exitOK, r.code)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, "nothing to export")
}
