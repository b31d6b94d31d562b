package soak

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// What Redis forgot is counted apart until it is acknowledged again.
func TestForget(t *testing.T) {
	t.Parallel()
	var got int64
	c := &Check{rows: make([]row, 1)}
	c.cfg.Read = func(context.Context, int, func(context.Context) (int64, error)) (int64, error) { return got, nil }
	reads := func(n int64, violations, forgotten uint64) {
		t.Helper()
		got = n
		c.read(t.Context(), 0)
		r := c.report.report()
		require.Equal(t, violations, r.Violations)
		require.Equal(t, forgotten, r.Forgotten)
	}
	c.rows[0].committed = append(c.rows[0].committed, c.start, c.start, c.start)
	require.True(t, c.note(0, 2, 0))
	reads(2, 0, 0)
	reads(1, 1, 0)
	c.Forget()
	reads(2, 1, 0)
	reads(1, 1, 1)
	require.False(t, c.note(0, 3, 0), "seen before it was forgotten")
	require.True(t, c.note(0, 3, 1))
	reads(3, 1, 1)
	reads(2, 2, 1)
	reads(1, 3, 1)
}

func TestLess(t *testing.T) {
	t.Parallel()
	require.True(t, less("9", "10"))
	require.True(t, less("", "1"))
	require.False(t, less("10", "9"))
	require.False(t, less("10", "10"))
}
