package migrations

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Format is the migration tool that exported files are for.
type Format string

// The formats.
const (
	FormatSQL           Format = "sql"            // plain scripts for psql
	FormatGoose         Format = "goose"          // github.com/pressly/goose
	FormatGolangMigrate Format = "golang-migrate" // github.com/golang-migrate/migrate
	FormatTern          Format = "tern"           // github.com/jackc/tern
	FormatDbmate        Format = "dbmate"         // github.com/amacneil/dbmate
	FormatAtlas         Format = "atlas"          // ariga.io/atlas, versioned migrations
)

// Formats returns every format.
func Formats() []Format {
	return []Format{FormatSQL, FormatGoose, FormatGolangMigrate, FormatTern, FormatDbmate, FormatAtlas}
}

// ExportOptions say how files are named.
type ExportOptions struct {
	// Dir holds the migrations so far; numbering continues from its last file.
	// It need not exist. Defaults to no migrations so far.
	Dir string
	// Name is the last part of the names of the files. Defaults to the name
	// of the schema.
	Name string
	// Now is the time in names that have one. Defaults to the present.
	Now time.Time
}

// File is one file of an export.
type File struct {
	Name    string // without a directory
	Content string
}

// Export is what the migrations of another tool need, to do what Up would.
type Export struct {
	Files []File   // none if there is nothing to do
	Notes []string // what is left to do by hand
}

// Export returns the changes that Up would make as files for another migration
// tool, and for undoing them what Down would do. The tool has to run them in
// one transaction, as all of these do by default. It changes nothing and
// writes no file.
//
// If triggers are installed already, the files hold the difference, and
// undoing them removes everything.
func (m *Migrator) Export(ctx context.Context, format Format, opts ExportOptions) (*Export, error) {
	if !slices.Contains(Formats(), format) {
		return nil, fmt.Errorf("unknown format %q: use one of %v", format, Formats())
	}
	var up, down *Plan
	err := m.readOnly(ctx, func(tx pgx.Tx) error {
		i, err := m.inspect(ctx, tx, toExport)
		if err != nil {
			return err
		}
		if len(i.problems) > 0 {
			return &CheckError{i.problems}
		}
		up, down = &i.plan, m.planUndo(i)
		return nil
	})
	if err != nil {
		return nil, err
	}
	e := &Export{Notes: up.Notes}
	if up.Empty() {
		return e, nil
	}
	n, err := opts.number(format, m.names.Schema())
	if err != nil {
		return nil, err
	}
	e.Files = format.files(n, m.script(up), m.script(down))
	if i := slices.IndexFunc(up.Changes, func(c Change) bool { return c.Object == "role "+m.cfg.WriterRole }); i >= 0 && format != FormatAtlas {
		e.Notes = append(e.Notes, "undoing leaves role "+m.cfg.WriterRole+" behind, without any right")
	}
	if format == FormatAtlas {
		e.Notes = append(e.Notes, "run atlas migrate hash: the directory has a new file")
	}
	return e, nil
}

// planUndo removes what will be there after the plan of an inspection.
func (m *Migrator) planUndo(i *inspection) *Plan {
	n := m.names
	p := &Plan{}
	add := func(object, sql string) {
		p.Changes = append(p.Changes, Change{State: StateUnmapped, Object: object, SQL: sql})
	}
	for _, t := range slices.Backward(i.want.eventTriggers) {
		add("event trigger "+t.name, dropEventTrigger(t.name, "IF EXISTS "))
	}
	for _, t := range slices.Backward(i.want.triggers) {
		add("trigger "+t.name+" on "+t.relation.name.String(), fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s;", ident(t.name), t.relation.name.SQL()))
	}
	for _, f := range slices.Backward(i.want.functions) {
		add("function "+n.Schema()+"."+f.name, fmt.Sprintf("DROP FUNCTION IF EXISTS %s;", f.signature(n)))
	}
	for _, o := range slices.Backward(i.want.base) {
		name := n.Ident(o.name)
		if o.class == "schema" {
			name = ident(n.Schema())
		}
		add(o.class+" "+o.name, fmt.Sprintf("DROP %s IF EXISTS %s;", strings.ToUpper(o.class), name))
	}
	return p
}

// script is a plan as the body of a migration: it says what it is and gives up
// soon if a table is busy.
func (m *Migrator) script(p *Plan) string {
	return fmt.Sprintf("SET LOCAL lock_timeout = '%dms'; -- fail rather than hold up the application\n\n%s", m.cfg.LockTimeout.Milliseconds(), p.SQL())
}

const banner = "-- Triggers of icache, made by icache-agent migrate export. Change the rules, not this file.\n"

// files lays out the two scripts.
func (f Format) files(stem, up, down string) []File {
	switch f {
	case FormatGoose:
		block := func(direction, sql string) string {
			return "-- +goose " + direction + "\n-- +goose StatementBegin\n" + sql + "-- +goose StatementEnd\n"
		}
		return []File{{stem + ".sql", banner + block("Up", up) + "\n" + block("Down", down)}}
	case FormatGolangMigrate:
		const warning = "-- Not for x-multi-statement=true, which splits functions at their semicolons.\n"
		return []File{{stem + ".up.sql", banner + warning + inTransaction(up)}, {stem + ".down.sql", banner + warning + inTransaction(down)}}
	case FormatTern:
		escape := strings.NewReplacer("{{", `{{ "{{" }}`).Replace
		return []File{{stem + ".sql", escape(banner+up) + "\n---- create above / drop below ----\n\n" + escape(down)}}
	case FormatDbmate:
		return []File{{stem + ".sql", "-- migrate:up\n" + banner + up + "\n-- migrate:down\n" + down}}
	case FormatAtlas:
		return []File{{stem + ".sql", banner + up}}
	}
	psql := func(sql string) string { return banner + "\\set ON_ERROR_STOP on\n" + inTransaction(sql) }
	return []File{{stem + ".up.sql", psql(up)}, {stem + ".down.sql", psql(down)}}
}

func inTransaction(sql string) string { return "BEGIN;\n" + sql + "\nCOMMIT;\n" }

var (
	leadingNumber = regexp.MustCompile(`^(\d+)[_.]`)
	notInNames    = regexp.MustCompile(`[^A-Za-z0-9_]+`)
)

const timestamp = "20060102150405"

// number returns the stem of the names of the new files: what the tool orders
// them by, continued from the directory's last file, then the name.
func (o ExportOptions) number(format Format, schema string) (string, error) {
	name := o.Name
	if name == "" {
		name = schema
	}
	name = strings.Trim(notInNames.ReplaceAllString(name, "_"), "_")
	if name == "" {
		name = "icache"
	}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	last, width, err := lastNumber(o.Dir)
	if err != nil {
		return "", err
	}
	stamp := now.UTC().Format(timestamp)
	switch {
	case format == FormatSQL:
		return name, nil
	case format == FormatTern: // counts without gaps
		return fmt.Sprintf("%0*d_%s", max(width, 3), last+1, name), nil
	case last > 0 && width < len(timestamp):
		return fmt.Sprintf("%0*d_%s", width, last+1, name), nil
	case strconv.FormatUint(last, 10) >= stamp && last > 0:
		stamp = strconv.FormatUint(last+1, 10) // files from a clock that is ahead
	}
	return stamp + "_" + name, nil
}

// lastNumber returns the highest number that a file in a directory begins
// with, and its digits.
func lastNumber(dir string) (last uint64, width int, err error) {
	if dir == "" {
		return 0, 0, nil
	}
	entries, err := os.ReadDir(filepath.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the migrations so far: %w", err)
	}
	for _, e := range entries {
		match := leadingNumber.FindStringSubmatch(e.Name())
		if match == nil || e.IsDir() || !strings.HasSuffix(e.Name(), ".sql") {
			continue
		}
		if n, err := strconv.ParseUint(match[1], 10, 64); err == nil && n >= last {
			last, width = n, len(match[1])
		}
	}
	return last, width, nil
}
