package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/mapping"
)

func BenchmarkAppendTokens(b *testing.B) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf(`{"id": "%d", "genre_id": "%d"}`, i, i%7)
	}
	for name, bench := range map[string]struct {
		tokens []string
		keys   string
	}{
		"one key":     {[]string{"movies", "movie:{id}", "genre:{genre_id}"}, `[{"id": "42", "genre_id": "7"}]`},
		"old and new": {[]string{"movies", "movie:{id}", "genre:{genre_id}"}, `[{"id": "42", "genre_id": "7"}, {"id": "42", "genre_id": null}]`},
		"1000 keys":   {[]string{"movies", "movie:{id}", "genre:{genre_id}"}, "[" + strings.Join(many, ", ") + "]"},
		"plain":       {[]string{"movies"}, `[{}]`},
		"elements":    {[]string{"tag:{tags[]}"}, `[{"tags[]": ["red", "green", "blue"]}]`},
		"escapes":     {[]string{"name:{name}"}, `[{"name": "a \"quoted\" n\u0061me"}]`},
	} {
		b.Run(name, func(b *testing.B) {
			m, err := mapping.Compile([]mapping.Rule{{Table: mapping.TableName{Schema: "public", Name: "movies"}, Tokens: bench.tokens}})
			require.NoError(b, err)
			change := mapping.Change{Table: "public.movies", Op: mapping.Update, Keys: []byte(bench.keys)}
			var dst []string
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.keys)))
			for b.Loop() {
				if dst, err = m.AppendTokens(dst[:0], change); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
