package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/suggest"
	"github.com/icache-go/icache-agent/migrations"
)

// export is the command migrate export.
type export struct {
	format, dir, name string
	down, force       bool
}

type exportOut struct {
	Files []fileOut `json:"files"`
	Notes []string  `json:"notes,omitempty"`
}

type fileOut struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

func (a *app) migrateExport() *cobra.Command {
	var e export
	cmd := a.migrateSub("export", "Write the SQL that 'up' would execute as migrations of another tool", nil)
	cmd.Long = `Writes what 'up' would execute, and what undoes it, as files that another migration tool
accepts; their numbers continue from the last file of the directory. Without --dir the files
are printed, or with --json told apart by name. Changes nothing in the database.

If triggers are installed already, the files hold the difference.

  icache-agent migrate export --format goose --dir db/migrations
  icache-agent migrate export --format sql | psql app
  icache-agent migrate export --format sql --down`
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		format, err := parseFormat(e.format)
		if err != nil {
			return err
		}
		return a.withMigrator(cmd, true, func(ctx context.Context, m *migrations.Migrator) error {
			made, err := m.Export(ctx, format, migrations.ExportOptions{Dir: e.dir, Name: e.name})
			if err != nil {
				return err
			}
			return a.export(e, made)
		})
	}
	cmd.Flags().StringVar(&e.format, "format", "", formatNames()+" (required)")
	cmd.Flags().StringVar(&e.dir, "dir", "", "`directory` to write to; it holds the migrations so far")
	cmd.Flags().StringVar(&e.name, "name", "", "last part of the names of the files (default: the name of the schema)")
	cmd.Flags().BoolVar(&e.down, "down", false, "only the file that undoes it, for formats that have one of its own")
	cmd.Flags().BoolVar(&e.force, "force", false, "overwrite files that are there")
	return cmd
}

func formatNames() string {
	var names []string
	for _, f := range migrations.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

func parseFormat(s string) (migrations.Format, error) {
	f := migrations.Format(s)
	if slices.Contains(migrations.Formats(), f) {
		return f, nil
	}
	if s == "" {
		return "", usageErrorf("give the migration tool with --format (%s)", formatNames())
	}
	hint := suggest.DidYouMean(s, strings.Split(formatNames(), ", "))
	if hint == "" {
		hint = formatNames()
	}
	return "", usageErrorf("format %q is not known (%s)", s, hint)
}

func (a *app) export(e export, made *migrations.Export) error {
	files := slices.DeleteFunc(slices.Clone(made.Files), func(f migrations.File) bool {
		undoes := strings.HasSuffix(f.Name, ".down.sql")
		if e.down {
			return !undoes
		}
		return undoes && e.dir == "" && !a.json // printed, they would follow each other
	})
	if e.down && len(made.Files) == 1 {
		return usageErrorf("format %s has no file of its own that undoes it (leave --down out)", e.format)
	}
	out := exportOut{Files: []fileOut{}, Notes: made.Notes}
	for _, f := range files {
		out.Files = append(out.Files, fileOut{filepath.Join(e.dir, f.Name), f.Content})
	}
	if e.dir != "" {
		if err := e.write(out.Files); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(out)
	}
	a.notes(out.Notes)
	if len(made.Files) == 0 {
		a.notes([]string{"up to date, nothing to export"})
	}
	for _, f := range out.Files {
		if e.dir != "" {
			fmt.Fprintln(a.stdout, f.Path)
		} else {
			fmt.Fprint(a.stdout, f.Content)
		}
	}
	return nil
}

// write writes all files, or none if one is there already.
func (e export) write(files []fileOut) error {
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return fmt.Errorf("write the migrations: %w", err)
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if !e.force {
		flags |= os.O_EXCL
		for _, f := range files {
			if _, err := os.Lstat(f.Path); !errors.Is(err, fs.ErrNotExist) {
				return usageErrorf("%s is there already (give --force to overwrite it)", f.Path)
			}
		}
	}
	for _, f := range files {
		if err := writeFile(f.Path, f.Content, flags); err != nil {
			return fmt.Errorf("write the migrations: %w", err)
		}
	}
	return nil
}

func writeFile(path, content string, flags int) error {
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}
