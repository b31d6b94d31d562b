package glob

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"movie:*", "movie:42", true},
		{"movie:*", "movies", false},
		{"movie:4?", "movie:42", true},
		{"movie:4?", "movie:4", false},
		{"*:42:*", "user:42:ratings", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-b-b-d", false},
		{"[a]", "a", false},
		{"ż?", "żó", true},
	} {
		require.Equal(t, test.want, Match(test.pattern, test.s), "%q %q", test.pattern, test.s)
	}
}

func TestMatchLikeRegexp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune("ab*?")), 0, 8, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab*")), 0, 10, -1).Draw(t, "s")
		re := "^" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern)) + "$"
		require.Equal(t, regexp.MustCompile(re).MatchString(s), Match(pattern, s))
	})
}
