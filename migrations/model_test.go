package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/mapping"
)

// image is a row of the model: id, g and w, which count, and u, which does not.
type image struct{ id, g, w, u int }

func (i image) values() string { return fmt.Sprintf("(%d, %d, %d, %d)", i.id, i.g, i.w, i.u) }

// variant is a table with a rule, and the same in Go.
type variant struct {
	table   string
	ddl     string
	columns []string
	when    string
	tokens  []string
	maxKeys int

	counts  func(image) bool
	watched func(image) image // without what does not count
	key     func(image) string
	keyless bool
}

func variants() []variant {
	all := func(image) bool { return true }
	whole := func(i image) image { return i }
	idG := func(i image) string { return fmt.Sprintf(`{"g":"%d","id":"%d"}`, i.g, i.id) }
	onlyG := func(i image) string { return fmt.Sprintf(`{"g":"%d"}`, i.g) }
	const keyed, keyless = "id int PRIMARY KEY, g int, w int, u int", "id int, g int, w int, u int"
	w := []string{"w"}
	return []variant{
		{"whole", keyed, nil, "", []string{"{id}", "{g}"}, 0, all, whole, idG, false},
		{"by_group", keyed, nil, "", []string{"{g}"}, 0, all, whole, onlyG, false},
		{"few", keyed, nil, "", []string{"{id}", "{g}"}, 3, all, whole, idG, false},
		{"few_groups", keyed, nil, "", []string{"{g}"}, 2, all, whole, onlyG, false},
		{"columns", keyed, w, "", []string{"{id}", "{g}"}, 0, all, func(i image) image { return image{i.id, i.g, i.w, 0} }, idG, false},
		{"condition", keyed, nil, "w > 1", []string{"{id}", "{g}"}, 0, func(i image) bool { return i.w > 1 }, whole, idG, false},
		{"columns_and_condition", keyed, w, "u > 1", []string{"{id}", "{g}"}, 0, func(i image) bool { return i.u > 1 }, func(i image) image { return image{i.id, i.g, i.w, 0} }, idG, false},
		{"keyless", keyless, nil, "", []string{"{g}"}, 0, all, whole, onlyG, true},
		{"keyless_condition", keyless, nil, "w > 1", []string{"{g}"}, 0, func(i image) bool { return i.w > 1 }, whole, onlyG, true},
	}
}

// want returns the keys of what changed between two states of the rows that a
// statement touched; rows without a key are compared as two bags.
func (v *variant) want(before, after []image) map[string]bool {
	keys := make(map[string]bool)
	diff := func(from, to []image) {
		bag := make(map[image]int)
		for _, i := range to {
			if v.counts(i) {
				bag[v.watched(i)]++
			}
		}
		for _, i := range from {
			if !v.counts(i) {
				continue
			}
			if bag[v.watched(i)]--; bag[v.watched(i)] < 0 {
				keys[v.key(i)] = true
			}
		}
	}
	diff(before, after)
	diff(after, before)
	return keys
}

// TestAgainstModel compares the triggers with a few lines of Go, over random
// statements of one and of many rows.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	list := variants()
	var ddl strings.Builder
	var rules []mapping.Rule
	for _, v := range list {
		fmt.Fprintf(&ddl, "CREATE TABLE %s (%s); ", v.table, v.ddl)
		r := rule(v.table, v.tokens...)
		r.Columns, r.When, r.MaxKeys = v.columns, v.when, v.maxKeys
		rules = append(rules, r)
	}
	b := setup(t, ddl.String(), rules...)
	small := rapid.IntRange(0, 3)

	rapid.Check(t, func(rt *rapid.T) {
		v := list[rapid.IntRange(0, len(list)-1).Draw(rt, "variant")]
		b.exec("DELETE FROM " + v.table)
		b.drain()
		var before, after []image
		taken := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(rt, "ids")
		n := rapid.IntRange(0, 5).Draw(rt, "rows")
		var from, to []string
		for k := range n {
			old := image{k, small.Draw(rt, "g"), small.Draw(rt, "w"), small.Draw(rt, "u")}
			change := old
			switch rapid.IntRange(0, 4).Draw(rt, "change") {
			case 0:
				change.g = small.Draw(rt, "g")
			case 1:
				change.w = small.Draw(rt, "w")
			case 2:
				change.u = small.Draw(rt, "u")
			case 3:
				change = image{10 + taken[k], small.Draw(rt, "g"), small.Draw(rt, "w"), small.Draw(rt, "u")}
			}
			before, after = append(before, old), append(after, change)
			from = append(from, old.values())
			to = append(to, fmt.Sprintf("(%d, %d, %d, %d, %d)", old.id, change.id, change.g, change.w, change.u))
		}
		check := func(op, sql string, before, after []image) {
			got := b.took(sql)
			keys := v.want(before, after)
			rows := max(len(before), len(after))
			switch {
			case len(keys) == 0:
				require.Empty(rt, got, "%s: %s", v.table, sql)
			case v.maxKeys > 0 && rows > v.maxKeys && len(got) == 1 && got[0].Keys == "unknown":
				// allowed for many rows, whatever has changed
			default:
				require.Len(rt, got, 1, "%s: %s", v.table, sql)
				require.Equal(rt, op, got[0].Op)
				if v.maxKeys > 0 && len(keys) > v.maxKeys {
					require.Equal(rt, "unknown", got[0].Keys)
					return
				}
				var texts []string
				for k := range keys {
					texts = append(texts, k)
				}
				require.Equal(rt, join(texts), got[0].Keys, "%s: %s", v.table, sql)
			}
		}
		if n == 0 {
			return
		}
		check("I", fmt.Sprintf("INSERT INTO %s VALUES %s", v.table, strings.Join(from, ", ")), nil, before)
		check("U", fmt.Sprintf("UPDATE %s t SET id = x.id, g = x.g, w = x.w, u = x.u FROM (VALUES %s) x (old, id, g, w, u) WHERE t.id = x.old",
			v.table, strings.Join(to, ", ")), before, after)
		check("D", "DELETE FROM "+v.table, after, nil)
	})
}
