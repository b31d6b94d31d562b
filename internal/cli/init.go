package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/introspect"
	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/internal/suggest"
)

// starter is the command init.
type starter struct {
	schemas, tables []string
	out             string
	force           bool
}

type initOut struct {
	File    string    `json:"file,omitempty"`
	Tables  []string  `json:"tables"`
	LeftOut []leftOut `json:"left_out"`
}

type leftOut struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (a *app) initCommand() *cobra.Command {
	var s starter
	settings := pflag.NewFlagSet("init", pflag.ContinueOnError)
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a config for an existing database, to start from",
		Long: `Reads the tables of a database and writes a commented config with a rule for each: the
primary key and the foreign keys become tokens. It changes nothing in the database, and says
at the end of the file what it left out and why.

  icache-agent init --postgres-url postgres://me@localhost/app
  icache-agent init --schema public --tables 'film*' --tables rental -o films.yaml

A table keeps its name in tokens as it is, in neither singular nor plural. Passwords are not
written: give them by PGPASSWORD, ~/.pgpass, url_file or ICACHE_POSTGRES__URL.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.init(cmd, s, settings) },
	}
	config.RegisterFlags(settings)
	settings.VisitAll(func(f *pflag.Flag) {
		if f.Name != "schema" { // here it is the one to read
			cmd.Flags().AddFlag(f)
		}
	})
	cmd.Flags().StringSliceVar(&s.schemas, "schema", nil, "read only these `schemas`; * and ? are wildcards (default: all but those of the system)")
	cmd.Flags().StringSliceVar(&s.tables, "tables", nil, "read only these `tables`, as name or schema.name; * and ? are wildcards")
	cmd.Flags().StringVarP(&s.out, "output", "o", config.DefaultFile, "`file` to write, - for standard output")
	cmd.Flags().BoolVar(&s.force, "force", false, "overwrite the file if it is there")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) init(cmd *cobra.Command, s starter, settings *pflag.FlagSet) error {
	if a.json && s.out == "-" {
		return usageErrorf("--json and -o - both write to standard output")
	}
	if err := s.vacant(); err != nil {
		return err
	}
	cfg, err := a.loadWith(settings)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	conn, err := connectPostgres(ctx, cfg, "icache-agent init")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	db, err := introspect.Read(ctx, conn, introspect.Options{Schemas: s.schemas, Tables: s.tables, Own: cfg.Postgres.Schema})
	if e, ok := errors.AsType[*introspect.UnmatchedError](err); ok {
		hint := suggest.DidYouMean(e.Pattern, e.Names)
		if hint == "" {
			hint = "names are taken as they are, with upper and lower case; * and ? are wildcards"
		}
		return usageErrorf("%w (%s)", e, hint)
	}
	if err != nil {
		return err
	}
	text := db.Starter(startSettings(cfg))
	if s.out == "-" {
		_, err := fmt.Fprint(a.stdout, text)
		return err
	}
	if err := s.write(text); err != nil {
		return err
	}
	return a.printInit(s.out, db)
}

func (a *app) printInit(file string, db *introspect.Database) error {
	if a.json {
		out := initOut{File: file, Tables: []string{}, LeftOut: []leftOut{}}
		for _, t := range db.Tables {
			out.Tables = append(out.Tables, t.Name.String())
		}
		for _, l := range db.LeftOut {
			out.LeftOut = append(out.LeftOut, leftOut(l))
		}
		return a.printJSON(out)
	}
	fmt.Fprintf(a.stdout, "%s: rules for %d tables", file, len(db.Tables))
	if n := len(db.LeftOut); n > 0 {
		fmt.Fprintf(a.stdout, "; what was left out stands at its end (%d)", n)
	}
	args := ""
	if file != config.DefaultFile {
		args = " -c " + file
	}
	fmt.Fprintf(a.stdout, "\nnext: read it, then icache-agent migrate up%s\n", args)
	return nil
}

// vacant makes sure that there is something to write to before any work is done.
func (s starter) vacant() error {
	if s.out == "-" || s.force {
		return nil
	}
	_, err := os.Lstat(s.out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return usageErrorf("cannot write %s: %w", s.out, err)
	}
	return usageErrorf("%s is there already (give --force to overwrite it, or another file with -o)", s.out)
}

func (s starter) write(text string) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if s.force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	if err := writeFile(s.out, text, flags); err != nil {
		return fmt.Errorf("write the config: %w", err)
	}
	return nil
}

const defaultRedis = "redis://localhost:6379/0"

// startSettings takes from the configuration what the new file should say.
func startSettings(cfg *config.Config) introspect.Settings {
	s := introspect.Settings{RedisURL: defaultRedis}
	s.PostgresURL, s.PostgresNote = withoutPassword(cfg.Postgres.URL, "PGPASSWORD, ~/.pgpass, url_file or ICACHE_POSTGRES__URL")
	if cfg.Postgres.URL == "" {
		s.PostgresNote = "url is left out: the variables PGHOST, PGDATABASE and so on say it"
	}
	if cfg.Postgres.URLFile != "" {
		s.PostgresURL, s.PostgresNote, s.PostgresURLFile = "", "", absolute(cfg, cfg.Postgres.URLFile)
	}
	if cfg.Redis.URL != "" {
		s.RedisURL, s.RedisNote = withoutPassword(cfg.Redis.URL, "url_file or ICACHE_REDIS__URL")
	}
	if cfg.Redis.URLFile != "" {
		s.RedisNote, s.RedisURLFile = "", absolute(cfg, cfg.Redis.URLFile)
	}
	if cfg.Postgres.Schema != outbox.DefaultSchema {
		s.Schema = cfg.Postgres.Schema
	}
	if cfg.Redis.TokenKey != config.Default().Redis.TokenKey {
		s.TokenKey = cfg.Redis.TokenKey
	}
	return s
}

// absolute resolves a path that is relative to the config that was read.
func absolute(cfg *config.Config, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	if abs, err := filepath.Abs(filepath.Join(filepath.Dir(cfg.File()), path)); err == nil {
		return abs
	}
	return path
}
