package template_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/tmpl/html/template"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

const rowTemplate = `{{define "row"}}{{icache "row" (printf "movie:%d" .ID)}}{{.Title}};{{endicache}}{{end}}`

func TestCollection(t *testing.T) {
	t.Parallel()
	c, other, trips := tmpltest.Processes(t)
	page := template.Must(template.New("page").Parse(rowTemplate + `{{icache "list"}}{{range .}}{{template "row" .}}{{end}}{{endicache}}`)).Cache(c)
	tmpltest.Collection(t, c, other, trips, func(ctx context.Context, movies []tmpltest.Movie) (string, error) {
		var out strings.Builder
		err := page.ExecuteContext(ctx, &out, movies)
		return out.String(), err
	})
}

// Without a block around them, rows take one round trip as well.
func TestCollectionOnPage(t *testing.T) {
	t.Parallel()
	c, other, trips := tmpltest.Processes(t)
	page := template.Must(template.New("page").Parse(rowTemplate + `{{range .}}{{template "row" .}}{{end}}`)).Cache(c)
	movies := make([]tmpltest.Movie, 500)
	for i := range movies {
		movies[i].ID = i
	}
	render := func() map[string]int {
		trips.Reset()
		ctx, events := tmpltest.Record(t.Context())
		require.NoError(t, page.ExecuteContext(ctx, io.Discard, movies))
		outcomes := make(map[string]int)
		for _, o := range events.Outcomes() {
			outcomes[o]++
		}
		return outcomes
	}
	render()
	require.Equal(t, map[string]int{"row: hit": 500}, render())
	require.EqualValues(t, 1, trips.N.Load())
	require.NoError(t, other.Incr(t.Context(), "movie:123"))
	require.Equal(t, map[string]int{"row: hit": 499, "row: miss": 1}, render())
	require.LessOrEqual(t, trips.N.Load(), int64(1+3))
}
