package suggest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/suggest"
)

func TestClosest(t *testing.T) {
	t.Parallel()

	words := []string{"insert", "update", "delete", "truncate"}
	for word, want := range map[string]string{
		"isnert":   "insert",
		"INSERT":   "insert",
		"updated":  "update",
		"del":      "",
		"trunkate": "truncate",
		"":         "",
		"zebra":    "",
	} {
		require.Equal(t, want, suggest.Closest(word, words), "word %q", word)
	}
	require.Equal(t, "url", suggest.Closest("ulr", []string{"url", "user"}))
	require.Empty(t, suggest.Closest("x", []string{"y"}))
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()

	require.Equal(t, `did you mean "tokens"?`, suggest.DidYouMean("token", []string{"table", "tokens"}))
	require.Empty(t, suggest.DidYouMean("token", nil))
}
