package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBumpAndGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, movies, movieRules)
	get := func(token string) uint64 {
		v := decode[map[string]*uint64](t, w.ok(t, "get", token, "--json"))
		require.Contains(t, v, token)
		if v[token] == nil {
			return 0
		}
		return *v[token]
	}
	require.Equal(t, "movies\t-\n", w.ok(t, "get", "movies"))
	require.Zero(t, get("movies"))

	printed := w.ok(t, "bump", "movies", "movie:42")
	require.Regexp(t, `^movies\t\d+\nmovie:42\t\d+\n$`, printed)
	before := get("movies")
	require.NotZero(t, before)
	w.ok(t, "bump", "movies")
	require.Greater(t, get("movies"), before)

	printed = w.ok(t, "bump", "--table", "movies")
	for _, token := range []string{"movies", "movie:*", "genre:*"} {
		require.Contains(t, "\n"+printed, "\n"+token+"\t")
	}
	movie := get("movie:42")
	w.ok(t, "bump", "--table", "movies")
	require.Greater(t, get("movie:42"), movie, "readers of a token_key that is not the default may not know groups")
	r := w.run(t, "bump", "--table", "films")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "public.movies")

	movie = get("movie:42")
	all := decode[struct{ Bumped int }](t, w.ok(t, "bump", "--all", "--json"))
	require.GreaterOrEqual(t, all.Bumped, 4)
	require.Greater(t, get("movie:42"), movie)
	require.NotZero(t, get("*"))
}

func TestSchemaAndVersion(t *testing.T) {
	t.Parallel()
	require.Contains(t, ok(t, "schema"), `"$schema"`)
	require.True(t, strings.HasPrefix(ok(t, "version"), "icache-agent "))
	require.NotEmpty(t, decode[map[string]string](t, ok(t, "version", "--json"))["version"])
	require.Contains(t, ok(t), "Usage:")
	require.Contains(t, ok(t, "migrate"), "status")
	require.Contains(t, ok(t, "completion", "bash"), "icache-agent")
}
