package introspect

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Settings are what a starter config says besides the rules. They must not
// hold passwords.
type Settings struct {
	PostgresURL, PostgresURLFile string // at most one; with neither, the PG* variables count
	PostgresNote                 string // a comment on it
	RedisURL, RedisURLFile       string
	RedisNote                    string
	Schema                       string // of icache; empty for the default
	TokenKey                     string // empty for the default
}

const head = `# icache.yaml: which tokens a change of a row outdates.
#
# Written by 'icache-agent init' from the tables of the database, as a start: take out the tables that no page
# shows, and the tokens that nothing depends on. Then
#
#   icache-agent check        is it right?  (--table T --new '{…}' prints the tokens of a change)
#   icache-agent migrate up   create the triggers
#   icache-agent run          watch and bump
#
# A table t with the primary key id has the tokens
#
#   t         bumped by every change of the table: for lists
#   t:{id}    bumped by a change of the row: for pages about one thing
#
# and a foreign key adds the token of the row that it points to, so that the page of a customer is outdated by a
# change of one of its rentals: of the customer before the change and of the one after. Where that is too much,
# give the relation a token of its own, such as "customer:{customer_id}:rentals".
#
# More can be said of a table; see https://github.com/icache-go/icache-agent/blob/main/icache.example.yaml:
#
#   on: [insert, delete]            only these operations count (default: insert, update, delete, truncate)
#   columns: [title, price]         only changes of these columns count, and of those in the tokens
#   when: "published"               only rows for which this holds, before or after the change
`

// Starter returns a commented config with a rule for each table.
func (db *Database) Starter(s Settings) string {
	var b strings.Builder
	b.WriteString(head)
	b.WriteString("\npostgres:\n")
	comment(&b, "  ", s.PostgresNote)
	switch {
	case s.PostgresURLFile != "":
		fmt.Fprintf(&b, "  url_file: %s\n", scalar(s.PostgresURLFile))
	case s.PostgresURL != "":
		fmt.Fprintf(&b, "  url: %s\n", scalar(s.PostgresURL))
	}
	if s.Schema != "" {
		fmt.Fprintf(&b, "  schema: %s\n", scalar(s.Schema))
	} else {
		b.WriteString("  schema: icache # of the triggers' functions and the outbox\n")
	}
	b.WriteString("redis:\n")
	comment(&b, "  ", s.RedisNote)
	if s.RedisURLFile != "" {
		fmt.Fprintf(&b, "  url_file: %s\n", scalar(s.RedisURLFile))
	} else {
		fmt.Fprintf(&b, "  url: %s\n", scalar(s.RedisURL))
	}
	if s.TokenKey != "" {
		fmt.Fprintf(&b, "  token_key: %s\n", scalar(s.TokenKey))
	}
	db.writeTables(&b)
	if len(db.LeftOut) > 0 {
		b.WriteString("\n# Left out:\n")
		for _, l := range db.LeftOut {
			comment(&b, "", "  "+l.Name+": "+l.Reason)
		}
	}
	return b.String()
}

func (db *Database) writeTables(b *strings.Builder) {
	if len(db.Tables) == 0 {
		b.WriteString("\ntables: []\n")
		return
	}
	b.WriteString("\ntables:\n")
	db.writePatterns(b)
	names := db.tokenNames()
	for i, t := range db.Tables {
		if i > 0 {
			b.WriteByte('\n')
		}
		tokens, notes := t.tokens(names)
		for _, n := range notes {
			comment(b, "  ", n)
		}
		fmt.Fprintf(b, "  - table: %s\n    tokens:\n", scalar(t.Name.String()))
		for _, token := range tokens {
			fmt.Fprintf(b, "      - %s", quoted(token.template))
			if token.comment != "" {
				b.WriteString(" # " + oneLine(token.comment))
			}
			b.WriteByte('\n')
		}
	}
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// writePatterns shows, commented out, how one rule serves a whole schema.
func (db *Database) writePatterns(b *strings.Builder) {
	count := make(map[string]int)
	for _, t := range db.Tables {
		count[t.Name.Schema]++
	}
	for _, schema := range slices.Sorted(maps.Keys(count)) {
		if count[schema] > 1 && plainName.MatchString(schema) {
			fmt.Fprintf(b, "  # Instead of the %d rules for tables of %s, and for those that come later; a rule of its own comes before it:\n", count[schema], schema)
			fmt.Fprintf(b, "  # - table: %s\n  #   exclude: [schema_migrations, \"*_log\"]\n\n", scalar(schema+".*"))
		}
	}
}

// comment writes a line of comment, unless there is nothing to say.
func comment(b *strings.Builder, indent, text string) {
	if text != "" {
		fmt.Fprintf(b, "%s# %s\n", indent, oneLine(text))
	}
}

// oneLine keeps a name with a line break in it from ending a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

var plain = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// scalar writes a text as YAML, with quotes if it needs them.
func scalar(s string) string {
	if plain.MatchString(s) && strings.Contains(s, ".") { // nothing with a dot and letters is a number or true
		return s
	}
	return quoted(s)
}

// quoted writes a text as YAML in quotes, those that need no escapes if possible.
func quoted(s string) string {
	isPrintable := !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	switch {
	case isPrintable && !strings.ContainsAny(s, `"\`):
		return `"` + s + `"`
	case isPrintable:
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}
