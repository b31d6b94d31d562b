package demo

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed static
var staticFS embed.FS

const (
	defaultFilm   = 12 // Seven: the statement to try changes it
	defaultViewer = 1
	viewerCookie  = "icache-demo-viewer"
	policy        = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
)

// server answers the demo's page.
type server struct {
	db       database
	panels   *panels
	pictures *gallery
	changes  *changes
	chrome   *template.Template // everything around the cached fragments
	log      *slog.Logger
	psql     string       // the line to try
	servers  []serverLine // for the footer
	stopping <-chan struct{}
}

type serverLine struct{ Name, Where string }

type source struct{ Name, Text string }

// page is the data of the page around the panels.
type page struct {
	Viewer            viewer
	Viewers           []viewer
	FilmID            int
	Films, Film, Mine *panel
	Sources           []source
	chrome
}

// chrome is what both pages have around the fragments.
type chrome struct {
	Here       string // path of the page
	Changes    []change
	Seq        uint64 // of the last change that the page knows of
	Statements []statement
	Psql       string
	Config     string
	Servers    []serverLine
}

// around is called before anything is rendered: a fragment that is older than
// the last change in it is fetched again.
func (s *server) around(here string) chrome {
	return chrome{
		Here: here, Seq: s.changes.latest(), Changes: s.changes.recent(),
		Statements: statements, Psql: s.psql, Config: string(rules()), Servers: s.servers,
	}
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /panel/{name}", s.panel)
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /gallery", s.gallery)
	mux.HandleFunc("GET /gallery/picture", s.picture)
	mux.HandleFunc("POST /rate", s.rate)
	mux.HandleFunc("POST /turn", s.turn)
	mux.HandleFunc("POST /sql", s.sql)
	static := http.FileServerFS(staticFS)
	mux.Handle("GET /static/", static)
	protected := http.NewCrossOriginProtection().Handler(mux) // another site must not rate films
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if !strings.HasPrefix(r.URL.Path, "/static/") {
			h.Set("Cache-Control", "no-store")
		}
		protected.ServeHTTP(w, r)
	})
}

// visit reads from a request who asks and which film is shown.
func (s *server) visit(r *http.Request) (*view, []viewer, error) {
	viewers, err := s.db.viewers(r.Context())
	if err != nil {
		return nil, nil, err
	}
	v := &view{ctx: r.Context(), db: s.db, FilmID: defaultFilm}
	if n, err := strconv.Atoi(r.FormValue("film")); err == nil {
		v.FilmID = n
	}
	id := defaultViewer
	if cookie, err := r.Cookie(viewerCookie); err == nil {
		id, _ = strconv.Atoi(cookie.Value)
	}
	if n, err := strconv.Atoi(r.FormValue("user")); err == nil {
		id = n
	}
	for _, one := range viewers {
		if one.ID == id || v.Viewer.ID == 0 {
			v.Viewer = one
		}
	}
	return v, viewers, nil
}

func (s *server) page(w http.ResponseWriter, r *http.Request) {
	v, viewers, err := s.visit(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if r.FormValue("user") != "" {
		http.SetCookie(w, &http.Cookie{Name: viewerCookie, Value: strconv.Itoa(v.Viewer.ID), Path: "/", SameSite: http.SameSiteLaxMode, HttpOnly: true})
	}
	p := page{Viewer: v.Viewer, Viewers: viewers, FilmID: v.FilmID, Sources: s.panels.sources, chrome: s.around("/")}
	for name, to := range map[string]**panel{"films": &p.Films, "film": &p.Film, "mine": &p.Mine} {
		if *to, err = s.panels.render(r.Context(), name, v); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	s.write(w, r, "page", p)
}

// panel answers with one panel. Its headers say how it was made, for scripts.
func (s *server) panel(w http.ResponseWriter, r *http.Request) {
	v, _, err := s.visit(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p, err := s.panels.render(r.Context(), r.PathValue("name"), v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	p.setHeaders(w.Header())
	s.write(w, r, "panel", p)
}

func (s *server) write(w http.ResponseWriter, r *http.Request, name string, data any) {
	var out strings.Builder
	if err := s.chrome.ExecuteTemplate(&out, name, data); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(out.String())) // the browser may have gone away
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case r.Context().Err() != nil: // nobody waits for the answer
	case errors.Is(err, pgx.ErrNoRows), errors.Is(err, errNoPanel), errors.Is(err, errNoEngine):
		http.Error(w, "no such film, panel or engine", http.StatusNotFound)
	default:
		s.log.ErrorContext(r.Context(), "demo: request failed", "path", r.URL.Path, "error", err)
		http.Error(w, "the demo could not answer: "+err.Error(), http.StatusInternalServerError)
	}
}

// rate stores a rating. Nothing is invalidated here: the agent sees the row.
func (s *server) rate(w http.ResponseWriter, r *http.Request) {
	var n [3]int
	for i, name := range []string{"user", "film", "stars"} {
		var err error
		if n[i], err = strconv.Atoi(r.PostFormValue(name)); err != nil {
			http.Error(w, "rate: "+name+" is not a number", http.StatusBadRequest)
			return
		}
	}
	if n[2] < 1 || n[2] > mostStars {
		http.Error(w, fmt.Sprintf("rate: stars must be between 1 and %d", mostStars), http.StatusBadRequest)
		return
	}
	s.change(w, r, "icache_demo.ratings", fmt.Sprintf("/?film=%d", n[1]), func(ctx context.Context) error {
		return s.db.rate(ctx, n[0], n[1], n[2])
	})
}

// sql runs one of the prepared statements.
func (s *server) sql(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PostFormValue("n"))
	if err != nil || n < 0 || n >= len(statements) {
		http.Error(w, "sql: no such statement", http.StatusBadRequest)
		return
	}
	s.change(w, r, statements[n].Table, backTo(r), func(ctx context.Context) error {
		return s.db.run(ctx, statements[n])
	})
}

// change runs something that changes a table. A browser with JavaScript hears
// of it through its stream; one without is sent back to the page once the agent
// has applied the change.
func (s *server) change(w http.ResponseWriter, r *http.Request, table, back string, run func(context.Context) error) {
	applied := s.changes.applied()
	if err := s.changes.made(table, func() error { return run(r.Context()) }); err != nil {
		s.fail(w, r, err)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	select {
	case <-applied:
	case <-time.After(time.Second): // nothing changed, as with a transaction rolled back
	case <-r.Context().Done():
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// backTo returns the page that a form was sent from.
func backTo(r *http.Request) string {
	u, err := url.Parse(r.Referer())
	switch {
	case err == nil && u.Path == "/gallery":
		return u.Path
	case err == nil && u.Path == "/":
		return "/?" + u.RawQuery
	}
	return "/"
}

// events streams the changes as the agent applies them, after those that the
// page does not have yet.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseUint(cmp.Or(r.Header.Get("Last-Event-ID"), r.FormValue("after")), 10, 64)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	stream := s.changes.stream(ctx)
	if _, err := fmt.Fprint(w, "retry: 1000\n\n"); err != nil {
		return
	}
	send := func(ch change) bool {
		if ch.Seq <= after {
			return true
		}
		after = ch.Seq
		data, err := eventData(s.chrome, ch)
		if err != nil {
			s.log.ErrorContext(ctx, "demo: cannot show a change", "error", err)
			return false
		}
		_, err = fmt.Fprintf(w, "id: %d\nevent: change\ndata: %s\n\n", ch.Seq, data)
		return err == nil
	}
	recent := s.changes.recent()
	if after > s.changes.latest() { // the page is that of another run
		_, _ = fmt.Fprint(w, "event: reload\ndata:\n\n")
		return
	}
	for _, ch := range slices.Backward(recent) {
		if !send(ch) {
			return
		}
	}
	if rc.Flush() != nil {
		return
	}
	alive := time.NewTicker(15 * time.Second)
	defer alive.Stop()
	for {
		select {
		case <-s.stopping:
			return
		case <-alive.C:
			if _, err := fmt.Fprint(w, ": alive\n\n"); err != nil {
				return
			}
		case ch, open := <-stream:
			if !open || !send(ch) {
				return
			}
		}
		if rc.Flush() != nil {
			return
		}
	}
}

// rules returns data/icache.yaml.
func rules() []byte {
	text, err := fs.ReadFile(dataFS, "data/icache.yaml")
	if err != nil {
		panic(err) // it is compiled in
	}
	return text
}
