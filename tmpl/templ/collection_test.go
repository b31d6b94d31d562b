package icachetempl_test

import (
	"context"
	"strings"
	"testing"

	"github.com/a-h/templ"

	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	icachetempl "github.com/icache-go/icache-agent/tmpl/templ"
)

func TestCollection(t *testing.T) {
	t.Parallel()
	c, other, trips := tmpltest.Processes(t)
	fragments := icachetempl.New(icachetempl.Config{Cache: c, Version: "1"})
	tmpltest.Collection(t, c, other, trips, func(ctx context.Context, movies []tmpltest.Movie) (string, error) {
		rows := make([]templ.Component, len(movies))
		for i, m := range movies {
			rows[i] = with(fragments.Cached("row", m.Token()), text(m.Title+";"))
		}
		var out strings.Builder
		err := with(fragments.Cached("list"), rows...).Render(ctx, &out)
		return out.String(), err
	})
}
