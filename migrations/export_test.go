package migrations_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/mapping"
	"github.com/icache-go/icache-agent/migrations"
)

var update = flag.Bool("update", false, "write the golden files")

// shop is the sample schema of the golden files.
const shop = `CREATE TABLE products (id int PRIMARY KEY, category int, title text, price numeric, tags text[]);
	CREATE TABLE orders (id bigint, placed timestamptz, customer int, PRIMARY KEY (id, placed)) PARTITION BY RANGE (placed);
	CREATE TABLE orders_2024 PARTITION OF orders FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')`

func shopRules() []mapping.Rule {
	products := rule("products", "products", "product:{id}", "category:{category}", "tag:{tags[]}")
	products.When = "price > 0"
	products.Columns = []string{"title", "price"}
	return []mapping.Rule{products, rule("orders", "customer:{customer}", "day:{placed}")}
}

func exportBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, ctx: t.Context(), url: servertest.Postgres(t)}
	b.conn = b.connect()
	b.exec(shop)
	b.rules(shopRules()...)
	return b
}

func (b *bench) export(format migrations.Format, dir string) *migrations.Export {
	b.Helper()
	e, err := b.migrator().Export(b.ctx, format, migrations.ExportOptions{Dir: dir, Now: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)})
	require.NoError(b, err)
	return e
}

// TestExportGolden: what is generated changes only when somebody means it to.
// Run with -update after a change.
func TestExportGolden(t *testing.T) {
	t.Parallel()
	b := exportBench(t)
	for _, format := range migrations.Formats() {
		dir := filepath.Join("testdata", "export", string(format))
		e := b.export(format, "")
		var names []string
		for _, f := range e.Files {
			names = append(names, f.Name)
			path := filepath.Join(dir, f.Name)
			if *update {
				require.NoError(t, os.MkdirAll(dir, 0o755))
				require.NoError(t, os.WriteFile(path, []byte(f.Content), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), f.Content, path)
		}
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, len(names), "files nobody makes any more in %s", dir)
	}
}

func TestExportNumbers(t *testing.T) {
	t.Parallel()
	b := exportBench(t)
	tests := []struct {
		format migrations.Format
		files  []string
		want   string
	}{
		{migrations.FormatSQL, nil, "icache.up.sql"},
		{migrations.FormatGoose, nil, "20240506070809_icache.sql"},
		{migrations.FormatGoose, []string{"00001_a.sql", "00009_b.sql", "README.md", "00010_x.go"}, "00010_icache.sql"},
		{migrations.FormatGoose, []string{"20230101000000_a.sql"}, "20240506070809_icache.sql"},
		{migrations.FormatGoose, []string{"20290101000000_a.sql"}, "20290101000001_icache.sql"},
		{migrations.FormatGolangMigrate, []string{"000041_a.up.sql", "000041_a.down.sql"}, "000042_icache.up.sql"},
		{migrations.FormatTern, nil, "001_icache.sql"},
		{migrations.FormatTern, []string{"001_a.sql", "002_b.sql"}, "003_icache.sql"},
		{migrations.FormatDbmate, []string{"20230101000000_a.sql"}, "20240506070809_icache.sql"},
		{migrations.FormatAtlas, []string{"20230101000000_a.sql"}, "20240506070809_icache.sql"},
	}
	for _, test := range tests {
		dir := t.TempDir()
		for _, name := range test.files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		}
		require.Equal(t, test.want, b.export(test.format, dir).Files[0].Name)
	}
	require.Equal(t, "001_icache.sql", b.export(migrations.FormatTern, filepath.Join(t.TempDir(), "new")).Files[0].Name)
	_, err := b.migrator().Export(b.ctx, "liquibase", migrations.ExportOptions{})
	require.ErrorContains(t, err, `unknown format "liquibase": use one of [sql goose`)
}

// TestExportedScripts do what Up and Down do.
func TestExportedScripts(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	for _, format := range migrations.Formats() {
		b := exportBench(t)
		files := b.export(format, "").Files
		up, down := files[0].Content, ""
		switch format {
		case migrations.FormatGoose, migrations.FormatDbmate, migrations.FormatTern:
			separator := map[migrations.Format]string{
				migrations.FormatGoose: "-- +goose Down", migrations.FormatDbmate: "-- migrate:down", migrations.FormatTern: "---- create above / drop below ----",
			}[format]
			var ok bool
			up, down, ok = strings.Cut(up, separator)
			require.True(t, ok)
		case migrations.FormatGolangMigrate, migrations.FormatSQL:
			down = files[1].Content
		}
		run := func(script string) {
			if format != migrations.FormatSQL {
				// Other tests take down the same role on this server, which Up
				// and Down wait for and a script cannot.
				require.Eventually(t, func() bool {
					_, err := b.conn.Exec(b.ctx, script)
					if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42704" {
						return false
					}
					require.NoError(t, err, script)
					return true
				}, 10*time.Second, 50*time.Millisecond)
				return
			}
			if err != nil {
				t.Skip("there is no psql")
			}
			cmd := exec.Command(psql, "-X", "-q", b.url)
			cmd.Stdin = strings.NewReader(script)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		run(up)
		plan, err := b.migrator().Plan(b.ctx)
		require.NoError(t, err)
		require.True(t, plan.Empty(), plan.SQL())
		require.Empty(t, b.export(format, "").Files, "nothing to do")
		require.Equal(t, []row{{"products", "I", `{"category":"2","id":"1","tags[]":["a"]}`}}, b.took(`INSERT INTO products VALUES (1, 2, 'x', 3, '{a}')`))
		if down != "" {
			run(down)
			b.requireClean()
		}
	}
}

// TestExportDifference: for a database that has triggers, only what changed.
func TestExportDifference(t *testing.T) {
	t.Parallel()
	b := exportBench(t)
	b.upToDateAfterUp()
	rules := shopRules()
	rules[1].Tokens = []string{"customer:{customer}"}
	b.rules(rules...)
	content := b.export(migrations.FormatAtlas, "").Files[0].Content
	require.Contains(t, content, "-- stale: function icache.public_orders_row")
	require.NotContains(t, content, "products")
	require.NotContains(t, content, "CREATE SCHEMA")
	b.exec("BEGIN;" + content + "COMMIT")
	plan, err := b.migrator().Plan(b.ctx)
	require.NoError(t, err)
	require.True(t, plan.Empty(), plan.SQL())
}

func TestExportChecks(t *testing.T) {
	t.Parallel()
	b := exportBench(t)
	b.rules(rule("lost", "x"))
	_, err := b.migrator().Export(context.Background(), migrations.FormatSQL, migrations.ExportOptions{})
	require.ErrorAs(t, err, new(*migrations.CheckError))
}
