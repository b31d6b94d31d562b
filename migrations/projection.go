package migrations

import (
	"fmt"
	"slices"
	"strings"

	"github.com/icache-go/icache-agent/internal/outbox"
	"github.com/icache-go/icache-agent/mapping"
)

// Names of the transition tables, and the aliases of their rows. The names of
// variables begin with icache so that they hide no column in a condition.
const (
	oldRows = "old_rows"
	newRows = "new_rows"
	whenOf  = `"icache when"` // whether the condition holds for a row
)

// maxArguments of jsonb_build_object, in pairs.
const maxArguments = 50

// projection writes the part of trigger functions that finds the keys.
type projection struct {
	table   *table
	rule    *mapping.CompiledRule
	sources []mapping.Source
	names   outbox.Names
}

func newProjection(t *table, rule *mapping.CompiledRule, n outbox.Names) *projection {
	return &projection{table: t, rule: rule, sources: rule.Sources(), names: n}
}

// statement returns the function of a statement-level trigger. A statement that
// changed one row, and not its keys, is the common case and costs one query,
// which says where the row goes as well: SELECT INTO STRICT fails if there are
// more rows, or none, and leaves icache_to NULL. Then the keys are found the long way.
func (p *projection) statement(op mapping.Op) *function {
	rows := newRows
	if op == mapping.Delete {
		rows = oldRows
	}
	one, many := p.oneRow(rows), p.manyRows(rows)
	if op == mapping.Update {
		one, many = p.oneUpdate(), p.manyUpdates()
	}
	long := fmt.Sprintf(`    IF icache_to = %d THEN
      RETURN NULL; -- nothing changed
    ELSIF icache_to IS NULL THEN
      IF NOT EXISTS (SELECT FROM %s) THEN
        RETURN NULL;
      END IF;
      BEGIN
        icache_keys := NULL;
%s      EXCEPTION WHEN OTHERS THEN -- never fail the statement for that
        icache_keys := NULL;
      END;
      IF icache_keys = '[]' THEN
        RETURN NULL;
      END IF;
    END IF;
`, toNone, rows, many)
	return p.function(op.String(), fmt.Sprintf(`#variable_conflict use_column
DECLARE
  icache_keys jsonb;
  icache_to bigint;
BEGIN
  BEGIN
%s  EXCEPTION WHEN OTHERS THEN -- not one row, or the table is not what it was
    icache_to := NULL;
  END;
%sEND
`, one, tail(p.names, "TG_RELID", fmt.Sprintf("'%c'", byte(op)), "icache_keys", long)))
}

func (p *projection) function(operation, source string) *function {
	return &function{
		name:     functionName(p.table.name, operation),
		returns:  "trigger",
		table:    p.table.name.String(),
		settings: settingsFor(p.textColumns()),
		source:   source,
	}
}

// textColumns returns the columns whose text form matters: those of the
// sources, and all of them where rows are compared as text.
func (p *projection) textColumns() []*column {
	var list []*column
	for i := range p.table.columns {
		c := &p.table.columns[i]
		if len(p.table.primaryKey) == 0 || slices.ContainsFunc(p.sources, func(s mapping.Source) bool { return s.Column() == c.name }) {
			list = append(list, c)
		}
	}
	return list
}

// oneRow finds the keys of the only row of a transition table.
func (p *projection) oneRow(rows string) string {
	cases := ""
	if p.rule.Rule.When != "" {
		cases = fmt.Sprintf("WHEN NOT r.%s THEN %d", whenOf, toNone)
	}
	return p.selectOne("r", cases, p.marked(rows, "r"))
}

// manyRows finds the distinct keys of the rows of one transition table.
func (p *projection) manyRows(rows string) string {
	image := p.image(rows, "r")
	limit := p.limit()
	switch {
	case len(p.sources) == 0:
		return fmt.Sprintf("        icache_keys := CASE WHEN EXISTS (SELECT FROM %s) THEN '[{}]' ELSE '[]' END;\n", image)
	case p.distinctByKey(): // count first: making many keys in vain costs more
		return fmt.Sprintf(`        IF (SELECT count(*) < %d FROM (SELECT FROM %s LIMIT %[1]d) AS l) THEN
          SELECT coalesce(jsonb_agg(%[3]s), '[]') INTO icache_keys FROM %[2]s;
        END IF;
`, limit, image, p.object("r"))
	}
	return p.collect(fmt.Sprintf("SELECT DISTINCT %s FROM %s LIMIT %d", p.named("r"), image, limit))
}

// oneUpdate finds the keys of the only row that was updated, unless the update
// changed them: that is left to manyUpdates, since more in this query would be a
// cost to all.
func (p *projection) oneUpdate() string {
	none, rare := "NOT "+p.changed("o", "n", true), p.otherKeys("o", "n")
	if p.rule.Rule.When != "" {
		none = fmt.Sprintf("NOT (o.%s OR n.%[1]s) OR %s", whenOf, none)
		rare = fmt.Sprintf("NOT n.%s OR o.%[1]s AND (%s)", whenOf, rare)
	}
	cases := fmt.Sprintf("WHEN %s THEN %d", none, toNone)
	if len(p.sources) > 0 {
		cases += "\n      WHEN " + rare + " THEN NULL"
	}
	return p.selectOne("n", cases, p.marked(oldRows, "o")+", "+p.marked(newRows, "n"))
}

// selectOne fails unless there is one row. The limit keeps the planner from
// expecting so many that it would compile the query, which takes longer than
// the statement itself.
func (p *projection) selectOne(alias, cases, from string) string {
	if cases != "" {
		cases += "\n      "
	}
	return fmt.Sprintf("    SELECT jsonb_build_array(%s), CASE %s%s\n      INTO STRICT icache_keys, icache_to FROM %s LIMIT 2;\n",
		p.object(alias), cases, destination(p.names), from)
}

// manyUpdates finds the distinct keys, old and new, of the rows that changed.
func (p *projection) manyUpdates() string {
	many := p.changedKeys()
	if !p.distinctByKey() {
		return many
	}
	// Every changed row has a key of its own. If there are too many rows and
	// the first has changed, there are likely too many keys.
	return fmt.Sprintf(`        IF (SELECT count(*) < %d FROM (SELECT FROM %s LIMIT %[1]d) AS l) OR NOT EXISTS (
          SELECT FROM (SELECT * FROM %[3]s LIMIT 1) AS o, (SELECT * FROM %[4]s LIMIT 1) AS n WHERE %[5]s AND %[6]s) THEN
%[7]s        END IF;
`, p.limit(), newRows, p.image(oldRows, "r"), p.image(newRows, "r"), p.join(), p.changed("o", "n", false), many)
}

// limit is the number of keys that are too many.
func (p *projection) limit() int { return p.rule.Rule.MaxKeys + 1 }

// changedKeys compares old and new rows, paired by the primary key. Without
// one they are compared as a whole: rows that trade values must not go unseen.
func (p *projection) changedKeys() string {
	limit := p.limit()
	from := fmt.Sprintf("%s FULL JOIN %s ON %s", p.image(oldRows, "o"), p.image(newRows, "n"), p.join())
	if len(p.table.primaryKey) > 0 {
		key := ident(p.table.primaryKey[0])
		differ := fmt.Sprintf("(o.%s IS NULL OR n.%[1]s IS NULL OR %s)", key, p.changed("o", "n", false))
		if len(p.sources) == 0 {
			return fmt.Sprintf(`        icache_keys := CASE WHEN EXISTS (SELECT FROM %s
          WHERE %s) THEN '[{}]' ELSE '[]' END;
`, from, differ)
		}
		return p.collect(fmt.Sprintf(`SELECT DISTINCT %[8]s FROM %[2]s
          CROSS JOIN LATERAL (VALUES (o.%[3]s IS NOT NULL, %[4]s), (n.%[3]s IS NOT NULL, %[5]s)) AS k(present, %[1]s)
          WHERE k.present AND %[6]s LIMIT %[7]d`,
			p.aliases(""), from, key, p.values("o"), p.values("n"), differ, limit, p.aliases("k.")))
	}

	side := func(rows, alias string) string {
		list := "(" + alias + ".*)::text COLLATE \"C\" AS whole"
		if len(p.sources) > 0 {
			list += ", " + p.named(alias)
		}
		return "SELECT " + list + " FROM " + p.image(rows, alias)
	}
	o, n := side(oldRows, "o"), side(newRows, "n")
	difference := fmt.Sprintf("((%s EXCEPT ALL %s)\n          UNION ALL (%[2]s EXCEPT ALL %[1]s)) AS d", o, n)
	if len(p.sources) == 0 {
		return fmt.Sprintf("        icache_keys := CASE WHEN EXISTS (SELECT FROM %s) THEN '[{}]' ELSE '[]' END;\n", difference)
	}
	return p.collect(fmt.Sprintf("SELECT DISTINCT %s FROM %s LIMIT %d", p.aliases("d."), difference, limit))
}

// collect makes the keys of the rows of a query, unless they are too many.
func (p *projection) collect(query string) string {
	return fmt.Sprintf(`        SELECT CASE WHEN count(*) < %d THEN coalesce(jsonb_agg(%s), '[]') END INTO icache_keys FROM (
          %s) AS k;
`, p.limit(), p.objectOf("k"), query)
}

// image returns a transition table without the rows that do not count.
func (p *projection) image(rows, alias string) string {
	if p.rule.Rule.When == "" {
		return rows + " AS " + alias
	}
	return fmt.Sprintf("(SELECT * FROM %s AS %s WHERE (\n%s\n)) AS %s", rows, ident(p.table.name.Name), p.rule.Rule.When, alias)
}

// marked returns a transition table whose rows say whether they count.
func (p *projection) marked(rows, alias string) string {
	if p.rule.Rule.When == "" {
		return rows + " AS " + alias
	}
	return fmt.Sprintf("(SELECT *, (\n%s\n) IS TRUE AS %s FROM %s AS %s) AS %s", p.rule.Rule.When, whenOf, rows, ident(p.table.name.Name), alias)
}

// changed compares what counts of two rows byte by byte. Equality would not
// do: json and point have none, and 1.0 = 1.00 although the texts differ. The
// whole row is compared where every column counts, so that a column added
// later counts too. Marked rows have a column whenOf, see marked.
func (p *projection) changed(o, n string, marked bool) string {
	if len(p.rule.Rule.Columns) == 0 {
		return "(" + o + ".* *<> " + n + ".*)"
	}
	list := func(alias string) string {
		var items []string
		for _, c := range p.rule.Rule.Columns {
			items = append(items, alias+"."+ident(c))
		}
		for _, s := range p.sources {
			item := alias + "." + ident(s.Column())
			if s.Kind() == mapping.KindJSON {
				item = s.SQL(alias)
			}
			if !slices.Contains(items, item) {
				items = append(items, item)
			}
		}
		return record(items)
	}
	differ := "(" + list(o) + " *<> " + list(n) + ")"
	if marked && p.rule.Rule.When != "" {
		differ = fmt.Sprintf("(%s OR %s.%s <> %s.%[3]s)", differ, o, whenOf, n)
	}
	return differ
}

// sameKeys compares what the keys are made of, which is cheaper than making them.
func (p *projection) sameKeys(o, n string) string {
	list := func(alias string) string {
		var items []string
		for _, s := range p.sources {
			item := alias + "." + ident(s.Column())
			if s.Kind() == mapping.KindJSON {
				item = s.SQL(alias)
			}
			items = append(items, item)
		}
		return record(items)
	}
	return "(" + list(o) + " *= " + list(n) + ")"
}

// otherKeys is the opposite of sameKeys. For a few columns comparing the texts is
// the cheaper way: to set up a record takes as long as some casts.
func (p *projection) otherKeys(o, n string) string {
	const few = 3
	if len(p.sources) > few || slices.ContainsFunc(p.sources, func(s mapping.Source) bool { return s.Kind() != mapping.KindColumn || s.Hashed() }) {
		return "NOT " + p.sameKeys(o, n)
	}
	var terms []string
	for _, s := range p.sources {
		terms = append(terms, fmt.Sprintf(`%s IS DISTINCT FROM %s COLLATE "C"`, s.SQL(o), s.SQL(n)))
	}
	return strings.Join(terms, " OR ")
}

// record makes a value of several. Without the cast, comparing two of them
// would be a comparison of their parts.
func record(items []string) string { return "ROW(" + strings.Join(items, ", ") + ")::record" }

// join pairs rows by the primary key. A type from an extension has its equality
// outside pg_catalog, where it is not looked for.
func (p *projection) join() string {
	var terms []string
	for _, name := range p.table.primaryKey {
		format := "o.%s = n.%[1]s"
		if c := p.table.column(name); c != nil && c.isForeign {
			format = `o.%s::text COLLATE "C" = n.%[1]s::text COLLATE "C"`
		}
		terms = append(terms, fmt.Sprintf(format, ident(name)))
	}
	return strings.Join(terms, " AND ")
}

// distinctByKey reports whether no two rows can have the same keys, because
// the primary key is among them.
func (p *projection) distinctByKey() bool {
	return len(p.table.primaryKey) > 0 && !slices.ContainsFunc(p.table.primaryKey, func(c string) bool {
		return !slices.ContainsFunc(p.sources, func(s mapping.Source) bool {
			return s.Column() == c && s.Kind() == mapping.KindColumn
		})
	})
}

// object returns the keys of a row as the outbox has them.
func (p *projection) object(alias string) string {
	return p.build(func(i int) string { return p.sources[i].SQL(alias) })
}

// objectOf is object over the columns of aliases.
func (p *projection) objectOf(alias string) string {
	return p.build(func(i int) string { return fmt.Sprintf("%s.k%d", alias, i+1) })
}

func (p *projection) build(value func(int) string) string {
	if len(p.sources) == 0 {
		return "'{}'::jsonb"
	}
	var objects []string
	for start := 0; start < len(p.sources); start += maxArguments {
		var args []string
		for i := start; i < min(start+maxArguments, len(p.sources)); i++ {
			args = append(args, literal(p.sources[i].Name()), value(i))
		}
		objects = append(objects, "jsonb_build_object("+strings.Join(args, ", ")+")")
	}
	return strings.Join(objects, " || ")
}

// values returns the sources of a row. Texts are compared by their bytes: the
// column may have a collation for which different texts are equal.
func (p *projection) values(alias string) string { return p.list(alias, false) }

// named is values with the names of aliases.
func (p *projection) named(alias string) string { return p.list(alias, true) }

func (p *projection) list(alias string, named bool) string {
	items := make([]string, len(p.sources))
	for i, s := range p.sources {
		items[i] = s.SQL(alias)
		if s.Kind() != mapping.KindElements {
			items[i] += ` COLLATE "C"`
		}
		if named {
			items[i] += fmt.Sprintf(" AS k%d", i+1)
		}
	}
	return strings.Join(items, ", ")
}

// aliases returns the names of the values, each after the prefix.
func (p *projection) aliases(prefix string) string {
	items := make([]string, len(p.sources))
	for i := range items {
		items[i] = fmt.Sprintf("%sk%d", prefix, i+1)
	}
	return strings.Join(items, ", ")
}
