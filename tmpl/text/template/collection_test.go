package template_test

import (
	"context"
	"strings"
	"testing"

	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	"github.com/icache-go/icache-agent/tmpl/text/template"
)

func TestCollection(t *testing.T) {
	t.Parallel()
	c, other, trips := tmpltest.Processes(t)
	page := template.Must(template.New("page").Parse(
		`{{icache "list"}}{{range .}}{{icache "row" .Token}}{{.Title}};{{endicache}}{{end}}{{endicache}}`)).Cache(c)
	tmpltest.Collection(t, c, other, trips, func(ctx context.Context, movies []tmpltest.Movie) (string, error) {
		var out strings.Builder
		err := page.ExecuteContext(ctx, &out, movies)
		return out.String(), err
	})
}
