package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
)

func TestWithoutPassword(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"postgres://me@db/app": "postgres://me@db/app",
		"postgres://me:" + secret + "@db:5433/app?sslmode=disable": "postgres://me@db:5433/app?sslmode=disable",
		"postgres://me:" + secret + "@a:1,b:2/app":                 "postgres://me@a:1,b:2/app",
		"postgres://db/app?user=me&password=" + secret:             "postgres://db/app?user=me",
		"postgres:///app?host=/tmp&sslpassword=" + secret:          "postgres:///app?host=%2Ftmp",
		"redis://:" + secret + "@localhost:6379/2":                 "redis://localhost:6379/2",
		"redis://me:" + secret + "@localhost":                      "redis://me@localhost",
		"redis://localhost:6379/0":                                 "redis://localhost:6379/0",
		"host=db user=me password=" + secret:                       "host=db user=me",
		"host=db user=me":                                          "host=db user=me",
	} {
		got, note := withoutPassword(config.URL(in), "another way")
		require.Equal(t, want, got)
		if got == in {
			require.Empty(t, note, in)
		} else {
			require.Contains(t, note, "another way", in)
		}
	}
}
