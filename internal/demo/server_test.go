package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
)

// site is a running demo and a browser.
type site struct {
	*testing.T
	url     string
	browser *http.Client
	stage   *stage
}

func newSite(t *testing.T) *site {
	t.Helper()
	out := &transcript{}
	st, err := open(t.Context(), options(out, given(t)))
	t.Cleanup(func() { require.NoError(t, st.close()) })
	require.NoError(t, err, out)
	web, err := newServer(st, st.opt.Logger)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- web.serve(ctx, ln, func(ctx context.Context, _ string) error { <-ctx.Done(); return nil })
	}()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		require.NoError(t, <-done)
	})
	return &site{T: t, url: "http://" + ln.Addr().String(), browser: &http.Client{Jar: jar, Transport: transport}, stage: st}
}

// reply is what came back for a request.
type reply struct {
	status int
	header http.Header
	uri    string // after redirects
}

// do sends a request and returns the reply with its body.
func (s *site) do(req *http.Request) (reply, string) {
	s.Helper()
	resp, err := s.browser.Do(req)
	require.NoError(s, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	return reply{resp.StatusCode, resp.Header, resp.Request.URL.RequestURI()}, string(body)
}

func (s *site) get(path string) (reply, string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+path, nil)
	require.NoError(s, err)
	return s.do(req)
}

func (s *site) post(path string, form url.Values, header ...string) (reply, string) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.url+path, strings.NewReader(form.Encode()))
	require.NoError(s, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return s.do(req)
}

func rating(user, film, stars int) url.Values {
	return url.Values{"user": {strconv.Itoa(user)}, "film": {strconv.Itoa(film)}, "stars": {strconv.Itoa(stars)}}
}

func TestPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	resp, body := s.get("/")
	require.Equal(t, http.StatusOK, resp.status)
	require.Equal(t, 3, strings.Count(body, `class="badge miss"`))
	require.Contains(t, body, "Applied by the agent")
	require.Contains(t, body, "tables:\n  - table: icache_demo.films", "the rules")
	require.Contains(t, body, "{{icache &#34;film&#34;", "the templates")
	require.Contains(t, body, `psql &#34;$DATABASE_URL&#34;`)
	require.Contains(t, resp.header.Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, body, "style=", "the policy allows no inline style")

	_, body = s.get("/")
	require.Equal(t, 3, strings.Count(body, `class="badge hit"`))

	for _, path := range []string{"/static/app.js", "/static/style.css", "/static/icon.svg"} {
		resp, _ := s.get(path)
		require.Equal(t, http.StatusOK, resp.status, path)
	}
}

func TestPersonalListsAreApart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ada := s.get("/panel/mine?user=1")
	_, bruno := s.get("/panel/mine?user=2")
	require.Contains(t, ada, "Ada has rated")
	require.Contains(t, ada, "viewer:1")
	require.Contains(t, bruno, "Bruno has rated")
	require.NotContains(t, bruno, "Ada")

	s.get("/?user=2") // remembered in a cookie
	resp, again := s.get("/panel/mine")
	require.Contains(t, again, "Bruno has rated")
	require.Equal(t, statusHit, resp.header.Get(headerStatus))
}

func TestRatingWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.get("/panel/film?film=12&user=1")
	resp, body := s.post("/rate", rating(1, 12, 1))
	require.Equal(t, "/?film=12", resp.uri, "redirected to the page")
	require.Contains(t, body, `value="1" aria-label="1 of 5 stars" aria-pressed="true"`)
	require.Contains(t, body, `aria-label="1 of 5 stars">★<i>★★★★</i></span>`, "the page after the redirect is fresh")
	require.Contains(t, body, `title="from the commit to the bumped tokens">`)
}

func TestRatingTouchesWhatDependsOnIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	paths := map[string]string{ // panel → how it is made after viewer 1 has rated film 12
		"/panel/films":                statusMiss,
		"/panel/film?film=12":         statusMiss,
		"/panel/mine?user=1":          statusMiss,
		"/panel/film?film=1":          statusHit,
		"/panel/mine?user=2":          statusHit,
		"/panel/film?film=12&again=1": "", // the same fragment as above
	}
	for path := range paths {
		s.get(path)
	}
	applied := s.stage.changes.applied()
	resp, _ := s.post("/rate", rating(1, 12, 1), "Accept", "application/json")
	require.Equal(t, http.StatusNoContent, resp.status)
	select {
	case <-applied:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the agent has not applied the rating")
	}
	for path, want := range paths {
		if want != "" {
			resp, _ := s.get(path)
			require.Equal(t, want, resp.header.Get(headerStatus), path)
		}
	}
	change := s.stage.changes.recent()[0]
	require.Equal(t, "icache_demo.ratings", change.Table)
	require.Equal(t, "film_id=12 viewer_id=1", change.Keys)
	require.ElementsMatch(t, []string{"ratings", "film:12", "viewer:1"}, change.Tokens)
	require.NotEmpty(t, change.Latency)
}

func TestStatements(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.get("/")
	for n, st := range statements {
		applied := s.stage.changes.applied()
		resp, _ := s.post("/sql", url.Values{"n": {strconv.Itoa(n)}}, "Accept", "application/json")
		require.Equal(t, http.StatusNoContent, resp.status, st.SQL)
		if strings.Contains(st.SQL, "ROLLBACK") {
			select {
			case <-applied:
				require.Fail(t, "a transaction that was rolled back has been applied")
			case <-time.After(300 * time.Millisecond):
			}
			continue
		}
		select {
		case <-applied:
			require.Equal(t, st.Table, s.stage.changes.recent()[0].Table)
		case <-time.After(10 * time.Second):
			require.Fail(t, "not applied", st.SQL)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/events?after=%d", s.url, s.stage.changes.latest()), nil)
	require.NoError(t, err)
	resp, err := s.browser.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	lines := bufio.NewScanner(resp.Body)
	require.True(t, lines.Scan())
	require.Equal(t, "retry: 1000", lines.Text())

	execute(t, s.stage.postgres.URL, "UPDATE icache_demo.viewers SET name = '<i>Ada' WHERE id = 1")
	var event []string
	for lines.Scan() && len(event) < 3 {
		if lines.Text() != "" {
			event = append(event, lines.Text())
		}
	}
	require.Len(t, event, 3)
	require.Equal(t, "event: change", event[1])
	require.Contains(t, event[2], `icache_demo.viewers`)
	require.Contains(t, event[2], `viewer:1`)

	_, body := s.get("/panel/mine?user=1")
	require.Contains(t, body, "&lt;i&gt;Ada", "escaped")
}

// The rules cover what the templates show: whatever is changed, every fragment
// is served as it would be rendered now.
func TestRulesCoverTheTemplates(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	db := database{s.stage.pool}
	panels, err := newPanels(s.stage.cache, db)
	require.NoError(t, err)
	render := func(ctx context.Context, name string) *panel {
		p, err := panels.render(ctx, name, &view{ctx: ctx, db: db, FilmID: 12, Viewer: viewer{1, "Ada"}})
		require.NoError(t, err)
		return p
	}
	names := []string{"films", "film", "mine"}
	for _, name := range names {
		render(t.Context(), name)
	}
	for sql, outdated := range map[string][]string{
		"UPDATE icache_demo.films SET title = 'A' WHERE id = 12":                                    names,
		"UPDATE icache_demo.films SET year = year + 1":                                              names,
		"UPDATE icache_demo.films SET runtime = 1, genres = '{Western}' WHERE id = 12":              names,
		"UPDATE icache_demo.people SET name = name || ' Jr.'":                                       {"films", "film"},
		"UPDATE icache_demo.credits SET person_id = 1 WHERE film_id = 12 AND role = 'director'":     {"films", "film", "mine"},
		"DELETE FROM icache_demo.credits WHERE film_id = 12 AND role = 'cast'":                      {"films", "film", "mine"},
		"UPDATE icache_demo.viewers SET name = 'Lovelace' WHERE id = 1":                             {"film", "mine"},
		"UPDATE icache_demo.viewers SET name = 'Nobody' WHERE id = 2":                               {"film"},
		"INSERT INTO icache_demo.ratings VALUES (6, 12, 1) ON CONFLICT DO NOTHING":                  nil, // whether or not it was there
		"UPDATE icache_demo.ratings SET stars = 6 - stars WHERE viewer_id = 1 AND stars <> 3":       {"films", "film", "mine"},
		"UPDATE icache_demo.ratings SET film_id = 12 WHERE (viewer_id, film_id) IN (VALUES (2, 1))": nil,
		"DELETE FROM icache_demo.ratings WHERE viewer_id = 1":                                       {"films", "film", "mine"},
		"DELETE FROM icache_demo.films WHERE id = 9":                                                names, // cascades to credits and ratings
		"TRUNCATE icache_demo.ratings":                                                              names,
	} {
		applied := s.stage.changes.applied()
		conn, err := s.stage.pool.Acquire(t.Context())
		require.NoError(t, err)
		tag, err := conn.Exec(t.Context(), sql)
		conn.Release()
		if err != nil { // a rating that is there already
			require.ErrorContains(t, err, "ratings_pkey", sql)
			continue
		}
		if tag.RowsAffected() > 0 || strings.HasPrefix(sql, "TRUNCATE") {
			select {
			case <-applied:
			case <-time.After(10 * time.Second):
				require.Fail(t, "not applied", sql)
			}
			s.settle()
		}
		for _, name := range names {
			got := render(t.Context(), name)
			want := render(icache.Bypass(t.Context()), name)
			require.Equal(t, want.Body, got.Body, "%s after %s", name, sql)
			if tag.RowsAffected() > 0 && slices.Contains(outdated, name) {
				require.False(t, got.Hit, "%s after %s", name, sql)
			}
		}
	}
}

// settle waits until the agent has applied everything committed so far: one
// statement may touch several tables.
func (s *site) settle() {
	s.Helper()
	applied := s.stage.changes.applied()
	execute(s.T, s.stage.postgres.URL, "INSERT INTO icache_demo.people VALUES ((SELECT max(id) + 1 FROM icache_demo.people), gen_random_uuid())")
	for s.stage.changes.recent()[0].Table != "icache_demo.people" {
		select {
		case <-applied:
			applied = s.stage.changes.applied()
		case <-time.After(10 * time.Second):
			require.Fail(s, "not applied")
		}
	}
}

// A browser that was away is told what it has missed, one that was looking at
// another run of the demo to start over.
func TestEventsAfterAPause(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, before := s.get("/")
	require.Contains(t, before, `data-seq="`)
	seq := s.stage.changes.latest()
	applied := s.stage.changes.applied()
	execute(t, s.stage.postgres.URL, "UPDATE icache_demo.people SET name = 'Orson Welles' WHERE id = 1")
	select {
	case <-applied:
	case <-time.After(10 * time.Second):
		require.Fail(t, "not applied")
	}
	for query, want := range map[string]string{
		fmt.Sprintf("after=%d", seq):      "event: change",
		fmt.Sprintf("after=%d", seq+1000): "event: reload",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/events?"+query, nil)
		require.NoError(t, err)
		resp, err := s.browser.Do(req)
		require.NoError(t, err)
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "event:") {
		}
		require.Equal(t, want, lines.Text())
		require.NoError(t, resp.Body.Close())
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, tc := range map[string]struct {
		status int
		ask    func() (reply, string)
	}{
		"no such panel":   {http.StatusNotFound, func() (reply, string) { return s.get("/panel/nothing") }},
		"no such film":    {http.StatusNotFound, func() (reply, string) { return s.get("/panel/film?film=4711") }},
		"no such page":    {http.StatusNotFound, func() (reply, string) { return s.get("/elsewhere") }},
		"rate with GET":   {http.StatusMethodNotAllowed, func() (reply, string) { return s.get("/rate") }},
		"no stars":        {http.StatusBadRequest, func() (reply, string) { return s.post("/rate", url.Values{"user": {"1"}, "film": {"1"}}) }},
		"six stars":       {http.StatusBadRequest, func() (reply, string) { return s.post("/rate", rating(1, 1, 6)) }},
		"rate no film":    {http.StatusNotFound, func() (reply, string) { return s.post("/rate", rating(1, 4711, 3)) }},
		"no statement":    {http.StatusBadRequest, func() (reply, string) { return s.post("/sql", url.Values{"n": {"99"}}) }},
		"other statement": {http.StatusBadRequest, func() (reply, string) { return s.post("/sql", url.Values{"n": {"DROP"}}) }},
		"another site": {http.StatusForbidden, func() (reply, string) {
			return s.post("/rate", rating(1, 1, 3), "Origin", "http://elsewhere.example", "Sec-Fetch-Site", "cross-site")
		}},
	} {
		resp, body := tc.ask()
		require.Equal(t, tc.status, resp.status, "%s: %s", name, body)
	}
}

func TestMilliseconds(t *testing.T) {
	t.Parallel()
	require.Equal(t, "<0.1 ms", milliseconds(99*time.Microsecond))
	require.Equal(t, "0.1 ms", milliseconds(100*time.Microsecond))
	require.Equal(t, "9.9 ms", milliseconds(9900*time.Microsecond))
	require.Equal(t, "12 ms", milliseconds(12300*time.Microsecond))
}

func TestShortKeys(t *testing.T) {
	t.Parallel()
	require.Equal(t, "id=42", shortKeys([]byte(`[{"id":"42"}]`)))
	require.Equal(t, "a=1 b=NULL, a=2 b=3", shortKeys([]byte(`[{"a":"1","b":null},{"b":"3","a":"2"}]`)))
	require.Empty(t, shortKeys(nil))
	many := "[" + strings.Repeat(`{"film_id":"123456"},`, 99) + `{"film_id":"1"}]`
	require.Contains(t, shortKeys([]byte(many)), " and 95 more")
}
