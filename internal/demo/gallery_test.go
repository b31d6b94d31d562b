package demo

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var between = regexp.MustCompile(`\s*(<[^>]*>)\s*`)

// picture returns the list in an engine: its markup, without the spaces between
// tags and how it was made, and the fragments that were rendered.
func (s *site) picture(engine string) (list, rendered string) {
	s.Helper()
	resp, body := s.get("/gallery/picture?engine=" + url.QueryEscape(engine))
	require.Equal(s, http.StatusOK, resp.status, body)
	for name := range strings.FieldsSeq(resp.header.Get(headerRendered)) {
		require.Contains(s, body, `data-fragment="`+name+`" data-made="miss"`)
	}
	require.Len(s, strings.Fields(resp.header.Get(headerRendered)), strings.Count(body, `data-made="miss"`))
	_, list, _ = strings.Cut(body, "<ol")
	list, _, _ = strings.Cut(list, "</ol>")
	list = regexp.MustCompile(` data-made="\w+"`).ReplaceAllString(list, "")
	return html.UnescapeString(between.ReplaceAllString(list, "$1")), resp.header.Get(headerRendered)
}

// A change lights up exactly the fragments that show what was changed.
func TestGallery(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	resp, page := s.get("/gallery")
	require.Equal(t, http.StatusOK, resp.status, page)
	require.Equal(t, 2*9, strings.Count(page, `data-fragment="`))
	require.Equal(t, 2*9+1, strings.Count(page, `data-made="miss"`), "with the legend")
	require.Contains(t, page, `<button name="film" value="12">Seven</button>`)
	require.NotContains(t, page, "style=", "the policy allows no inline style")
	_, page = s.get("/gallery")
	require.Equal(t, 2*9+1, strings.Count(page, `data-made="hit"`))

	const rows = "film:1 film:11 film:12 film:14 film:24 film:5 film:6 film:7"
	for _, tc := range []struct{ sql, rendered, shows string }{
		{"UPDATE icache_demo.films SET title = 'Se7en & <Co>' WHERE id = 12", "film:12 list", "Se7en & <Co>"},
		{"UPDATE icache_demo.ratings SET stars = 6 - stars WHERE film_id = 6", "film:6 list", "Pulp Fiction"},
		{"UPDATE icache_demo.ratings SET stars = 6 - stars WHERE film_id = 9", "", "Pulp Fiction"},  // not in the list
		{"UPDATE icache_demo.films SET title = 'Other' WHERE id = 9", "list", "Pulp Fiction"},       // it might have come in
		{"UPDATE icache_demo.films SET year = 2024 WHERE id = 24", "film:32 list", "Fargo"},         // which takes its place
		{"UPDATE icache_demo.films SET year = 1994 WHERE id = 24", "film:24 list", "The Lion King"}, // Fargo is out
		{"UPDATE icache_demo.people SET name = 'Q. T.' WHERE id = (SELECT person_id FROM icache_demo.credits WHERE film_id = 6 AND role = 'director')", rows + " list", "Q. T."},
		{"UPDATE icache_demo.viewers SET name = 'Nobody' WHERE id = 2", "", "Pulp Fiction"},
	} {
		applied := s.stage.changes.applied()
		execute(t, s.stage.postgres.URL, tc.sql)
		select {
		case <-applied:
		case <-time.After(10 * time.Second):
			require.Fail(t, "not applied", tc.sql)
		}
		var first string
		for _, engine := range []string{"html/template", "text/template"} {
			list, rendered := s.picture(engine)
			require.Equal(t, tc.rendered, rendered, "%s after %s", engine, tc.sql)
			require.Contains(t, list, tc.shows, engine)
			again, rendered := s.picture(engine)
			require.Empty(t, rendered, "%s after %s", engine, tc.sql)
			require.Equal(t, list, again)
			if first == "" {
				first = list
			}
			require.Equal(t, first, list, "the same list in %s", engine)
		}
	}
	resp, _ = s.get("/gallery/picture?engine=mustache")
	require.Equal(t, http.StatusNotFound, resp.status)
}

func TestGalleryWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.get("/gallery")
	resp, page := s.post("/turn", url.Values{"film": {"12"}}, "Referer", s.url+"/gallery")
	require.Equal(t, "/gallery", resp.uri, "redirected to the page")
	require.Equal(t, 2, strings.Count(page, `<span class="badge miss"`))
	require.Equal(t, 2*2+1, strings.Count(page, `data-made="miss"`), "list and row, and the legend")
	for _, film := range []string{"", "twelve"} {
		resp, _ := s.post("/turn", url.Values{"film": {film}}, "Accept", "application/json")
		require.Equal(t, http.StatusBadRequest, resp.status, film)
	}
}
