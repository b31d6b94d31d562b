package integration

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDDLIsSeen goes from a command that no trigger on a table sees to the
// token of the group, also where the table is gone before the agent hears of it.
func TestDDLIsSeen(t *testing.T) {
	t.Parallel()
	s := sharedStack(t, `  - {table: events, tokens: ["events", "event:{id}"]}
  - {table: gone, tokens: ["gone", "gone:{id}"]}
  - {table: other.a, tokens: ["a", "a:{id}"]}
  - {table: other.b, on: [insert], tokens: ["b", "b:{id}"]}`)
	s.exec(t, `CREATE TABLE events (id int, day int, v int) PARTITION BY LIST (day);
		CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
		CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
		CREATE TABLE loose (id int, day int, v int);
		CREATE TABLE gone (id int PRIMARY KEY);
		CREATE SCHEMA other; CREATE TABLE other.a (id int PRIMARY KEY); CREATE TABLE other.b (id int PRIMARY KEY)`)
	succeed(t, "migrate", "up", "--event-trigger", "-c", s.config)
	a := startAgent(t, s.config)
	everything := s.value(t, "*")
	for _, step := range []struct {
		sql    string
		tokens []string
	}{
		{"ALTER TABLE events ATTACH PARTITION loose FOR VALUES IN (3)", []string{"events", "event:*"}},
		{"ALTER TABLE events DETACH PARTITION loose", []string{"events", "event:*"}},
		{"ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY", []string{"events", "event:*"}},
		{"ALTER TABLE events ALTER v TYPE text USING 'x' || v", []string{"events", "event:*"}},
		{"DROP TABLE events_2", []string{"events", "event:*"}},
		{"DROP TABLE gone", []string{"gone", "gone:*"}},
		{"DROP SCHEMA other CASCADE", []string{"a", "a:*", "b", "b:*"}},
		{"DROP TABLE events", []string{"events", "event:*"}},
	} {
		before := make(map[string]uint64)
		for _, token := range step.tokens {
			before[token] = s.value(t, token)
		}
		s.exec(t, step.sql)
		for _, token := range step.tokens {
			s.awaitBump(t, token, before[token])
		}
	}
	s.awaitDrained(t)
	require.Equal(t, everything, s.value(t, "*"), "each of them was known by its name")
	a.terminate(t)
}
