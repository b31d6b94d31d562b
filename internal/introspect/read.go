package introspect

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/internal/glob"
	"github.com/icache-go/icache-agent/mapping"
)

// Options say which tables to read.
type Options struct {
	// Schemas and Tables are patterns with * and ?. A table is read if any of
	// each matches; an empty list matches everything. A pattern of Tables is
	// compared with the bare name and with the one that has the schema.
	Schemas, Tables []string
	// Own is the schema that holds the objects of icache.
	Own string
	// AnyRole reads tables that the role has no rights on as well.
	AnyRole bool
}

// Database is what was found.
type Database struct {
	Tables  []Table   // by name
	LeftOut []LeftOut // by name
}

// Table is a table that a rule can be written for.
type Table struct {
	Name        mapping.TableName
	PrimaryKey  []Column // empty without one
	ForeignKeys []ForeignKey
	Partitions  int      // at any depth
	Virtual     []string // columns that are generated when they are read
}

// Column is a column by name and type.
type Column struct{ Name, Type string }

// ForeignKey points from some columns of a table to those of another.
type ForeignKey struct {
	Name       string
	Columns    []Column
	Ref        mapping.TableName // if it is a partition, the table above
	RefColumns []Column          // in the order of Columns
	RefKey     []string          // primary key of Ref, empty without one
}

// LeftOut is a relation, or several of a kind, without a rule.
type LeftOut struct{ Name, Reason string }

// querier is what is needed of a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// UnmatchedError says that a pattern matches nothing.
type UnmatchedError struct {
	Pattern string
	Names   []string // of all tables, as the pattern could have named them
}

// Error returns what was not found.
func (e *UnmatchedError) Error() string { return fmt.Sprintf("no table matches %q", e.Pattern) }

// Read reads the tables of the database. It takes no lock that anybody waits for.
func Read(ctx context.Context, q querier, opts Options) (*Database, error) {
	all, err := readRelations(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	chosen, err := opts.choose(all)
	if err != nil {
		return nil, err
	}
	db := &Database{}
	ownSchemas := icacheSchemas(all, opts.Own)
	partitions := make(map[mapping.TableName]int)
	ours := make(map[string]bool)
	for _, r := range chosen {
		if opts.AnyRole {
			r.mayUse, r.mayTrigger = true, true
		}
		reason := r.leftOut()
		switch {
		case slices.Contains(ownSchemas, r.name.Schema):
			ours[r.name.Schema] = true
		case r.root != nil:
			partitions[*r.root]++
		case reason != "":
			db.LeftOut = append(db.LeftOut, LeftOut{r.name.String(), reason})
		default:
			db.Tables = append(db.Tables, Table{Name: r.name, PrimaryKey: r.key, Virtual: r.virtual})
		}
	}
	for root, n := range partitions {
		db.LeftOut = append(db.LeftOut, LeftOut{
			fmt.Sprintf("%d partitions of %s", n, root), "a rule for " + root.String() + " covers them",
		})
	}
	for schema := range ours {
		db.LeftOut = append(db.LeftOut, LeftOut{"schema " + schema, "belongs to icache itself"})
	}
	slices.SortFunc(db.LeftOut, func(a, b LeftOut) int { return strings.Compare(a.Name, b.Name) })
	for i := range db.Tables {
		db.Tables[i].Partitions = partitions[db.Tables[i].Name]
	}
	if err := db.readForeignKeys(ctx, q); err != nil {
		return nil, fmt.Errorf("read the foreign keys: %w", err)
	}
	return db, nil
}

// choose returns the relations that the patterns match.
func (o Options) choose(all []relation) ([]relation, error) {
	used := make(map[string]bool)
	matches := func(patterns []string, names ...string) bool {
		found := len(patterns) == 0
		for _, p := range patterns {
			if slices.ContainsFunc(names, func(name string) bool { return p == name || glob.Match(p, name) }) {
				used[p], found = true, true
			}
		}
		return found
	}
	var chosen []relation
	for _, r := range all {
		bySchema := matches(o.Schemas, r.name.Schema)
		byName := matches(o.Tables, r.name.Name, r.name.String(), r.name.Schema+"."+r.name.Name)
		if bySchema && byName {
			chosen = append(chosen, r)
		}
	}
	for _, p := range slices.Concat(o.Schemas, o.Tables) {
		if used[p] {
			continue
		}
		e := &UnmatchedError{Pattern: p}
		for _, r := range all {
			e.Names = append(e.Names, r.name.Schema, r.name.Name, r.name.String())
		}
		return nil, e
	}
	return chosen, nil
}

// bookkeeping are the tables in which migration tools remember what they did:
// they change with every deploy, and no page shows them.
var bookkeeping = map[string]string{
	"schema_migrations":           "golang-migrate, dbmate, Rails or Ecto",
	"ar_internal_metadata":        "Rails",
	"goose_db_version":            "goose",
	"schema_version":              "tern",
	"atlas_schema_revisions":      "Atlas",
	"flyway_schema_history":       "Flyway",
	"databasechangelog":           "Liquibase",
	"databasechangeloglock":       "Liquibase",
	"alembic_version":             "Alembic",
	"django_migrations":           "Django",
	"knex_migrations":             "Knex",
	"knex_migrations_lock":        "Knex",
	"_prisma_migrations":          "Prisma",
	"__drizzle_migrations":        "Drizzle",
	"__EFMigrationsHistory":       "Entity Framework",
	"SequelizeMeta":               "Sequelize",
	"pgmigrations":                "node-pg-migrate",
	"gorp_migrations":             "sql-migrate",
	"_sqlx_migrations":            "SQLx",
	"__diesel_schema_migrations":  "Diesel",
	"refinery_schema_history":     "Refinery",
	"doctrine_migration_versions": "Doctrine",
	"phinxlog":                    "Phinx",
	"river_migration":             "River",
}

// leftOut returns why there can be no rule for the relation, or should be none.
func (r *relation) leftOut() string {
	switch r.kind {
	case "v":
		return "a view; write rules for the tables behind it"
	case "m":
		return "a materialized view; after REFRESH, run icache-agent bump with a token of your choice"
	case "f":
		return "a foreign table; run an agent beside the database that owns it"
	}
	switch tool, isBookkeeping := bookkeeping[r.name.Name]; {
	case isBookkeeping:
		return "bookkeeping of a migration tool (" + tool + ")"
	case r.extension != nil:
		return "belongs to the extension " + *r.extension
	case r.parent != nil:
		return "inherits from " + r.parent.String() + ", and only one of the two can have a rule"
	case !r.mayUse:
		return fmt.Sprintf("the role may not use the schema; GRANT USAGE ON SCHEMA %s to the role of the migrations", pgx.Identifier{r.name.Schema}.Sanitize())
	case !r.mayTrigger:
		return fmt.Sprintf("the role may not create triggers on it; GRANT TRIGGER ON %s to the role of the migrations", r.name.SQL())
	}
	return ""
}

// icacheSchemas returns the schemas that hold objects of icache.
func icacheSchemas(all []relation, own string) []string {
	has := make(map[string]int)
	for _, r := range all {
		switch r.name.Name {
		case "outbox_0", "outbox_1", "cursor", "meta", "tables":
			has[r.name.Schema]++
		}
	}
	schemas := []string{own}
	for schema, n := range has {
		if n == 5 {
			schemas = append(schemas, schema)
		}
	}
	return schemas
}
