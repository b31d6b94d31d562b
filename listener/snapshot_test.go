package listener

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSnapshotText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"10:10:", "3:20:3,7,19", "4294967299:4294967310:4294967299"} {
		s, err := parseSnapshot(text)
		require.NoError(t, err)
		require.Equal(t, text, s.String())
	}
	for _, text := range []string{"", "1:2", "1:x:", "1:2:3,", "1:2:a", "-1:-2:"} {
		_, err := parseSnapshot(text)
		require.Error(t, err, text)
	}
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add("3:20:3,7,19")
	f.Add("::")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSnapshot(text)
		if err != nil {
			return
		}
		again, err := parseSnapshot(s.String())
		require.NoError(t, err)
		require.True(t, s.equal(again))
	})
}

// A backlog read in pieces of any size, while transactions go on, is read
// completely and without repetition, and nothing is read before it commits.
func TestPiecesMakeTheWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const base = 100
		var (
			committed []uint64 // in no particular order
			open      []uint64
			next      = uint64(base)
			seen      = map[uint64]int{}
			cursor    = snapshot{xmax: base}
		)
		churn := func(t *rapid.T) {
			for range rapid.IntRange(0, 8).Draw(t, "steps") {
				if len(open) > 0 && rapid.Bool().Draw(t, "end") {
					i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
					if rapid.IntRange(0, 3).Draw(t, "outcome") > 0 {
						committed = append(committed, open[i])
					}
					open = slices.Delete(open, i, i+1)
				} else {
					open = append(open, next)
					next++
				}
			}
		}
		poll := func(limit int) (more bool) {
			now := snapshot{xmax: next, xip: slices.Sorted(slices.Values(open))}
			var rows []uint64
			for _, x := range committed {
				if !cursor.has(x) {
					rows = append(rows, x)
				}
			}
			slices.Sort(rows)
			last := uint64(math.MaxUint64)
			if len(rows) > limit {
				rows = rows[:limit]
				last, more = rows[limit-1], true
			}
			for _, x := range rows {
				seen[x]++
			}
			cursor = cursor.through(now, last)
			if !more {
				require.True(t, cursor.equal(now))
			}
			parsed, err := parseSnapshot(cursor.String())
			require.NoError(t, err)
			require.True(t, parsed.equal(cursor), "the cursor is a valid pg_snapshot")
			require.True(t, slices.IsSorted(cursor.xip))
			return more
		}
		t.Repeat(map[string]func(*rapid.T){
			"churn": churn,
			"poll":  func(t *rapid.T) { poll(rapid.IntRange(1, 5).Draw(t, "limit")) },
			"": func(t *rapid.T) {
				for x, n := range seen {
					require.Equal(t, 1, n, "transaction %d was read %d times", x, n)
					require.Contains(t, committed, x)
				}
			},
		})
		for poll(2) {
		}
		for _, x := range committed {
			require.Equal(t, 1, seen[x], "transaction %d", x)
		}
	})
}
