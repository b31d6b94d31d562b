package demo

import (
	"context"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl"
	cachedhtml "github.com/icache-go/icache-agent/tmpl/html/template"
	cachedtext "github.com/icache-go/icache-agent/tmpl/text/template"
)

// Engine renders the list of the gallery: a template language with the tag. The
// list is a fragment, and so is each of its rows. Both carry their names in the
// attribute data-fragment, "list" and "film:12".
type Engine struct {
	Name   string // html/template
	Source string // of its template, to be shown
	Render func(ctx context.Context, w io.Writer, l *List) error
}

// NewEngine makes an engine that keeps its fragments in the cache.
type NewEngine func(*icache.Cache) (Engine, error)

// List is the data of the gallery's templates. Its methods query the database
// when a template comes to them. A row is read inside its own fragment: read
// with the list, it could be older than the row's version.
type List struct {
	ctx context.Context
	db  database
}

// Film is a row of the list, in the form in which it is shown.
type Film struct {
	ID               int
	Title, Directors string
	Year             int
	Average          string
}

// IDs are the films of the list.
func (l *List) IDs() ([]int, error) { return l.db.nineties(l.ctx) }

// Film reads one film.
func (l *List) Film(id int) (Film, error) {
	f, err := l.db.film(l.ctx, id)
	return Film{f.ID, f.Title, strings.Join(f.Directors, ", "), f.Year, fmt.Sprintf("%.2f", f.Average)}, err
}

const (
	galleryList = "list"  // the outer fragment
	galleryRow  = "film:" // the inner ones: the token of the film
)

var standardEngines = []NewEngine{newHTMLEngine, newTextEngine}

func newHTMLEngine(cache *icache.Cache) (Engine, error) {
	source, err := gallerySource("gallery.html")
	if err != nil {
		return Engine{}, err
	}
	t, err := cachedhtml.New("gallery").Cache(cache).Parse(source)
	return Engine{"html/template", source, func(ctx context.Context, w io.Writer, l *List) error {
		return t.ExecuteContext(ctx, w, l)
	}}, err
}

func newTextEngine(cache *icache.Cache) (Engine, error) {
	source, err := gallerySource("gallery.txt")
	if err != nil {
		return Engine{}, err
	}
	t, err := cachedtext.New("gallery").Cache(cache).Parse(source)
	return Engine{"text/template", source, func(ctx context.Context, w io.Writer, l *List) error {
		return t.ExecuteContext(ctx, w, l)
	}}, err
}

func gallerySource(name string) (string, error) {
	text, err := fs.ReadFile(templatesFS, "templates/"+name)
	return strings.TrimSpace(string(text)), err
}

// gallery is the same list in each engine.
type gallery struct {
	engines []Engine
	db      database
}

func newGallery(cache *icache.Cache, db database, more []NewEngine) (*gallery, error) {
	g := &gallery{db: db}
	for _, make := range slices.Concat(standardEngines, more) {
		e, err := make(cache)
		if err != nil {
			return nil, fmt.Errorf("gallery: %s: %w", e.Name, err)
		}
		g.engines = append(g.engines, e)
	}
	return g, nil
}

// picture is the list in one engine, and what is known about it.
type picture struct {
	Engine   string
	Source   string
	Body     htmltemplate.HTML
	Took     time.Duration
	Version  uint64   // of the outer fragment
	Rendered []string // the fragments that did not come from the cache
	Total    int      // fragments that are to be seen
}

var (
	errNoEngine = errors.New("no such engine")

	// An engine writes no more than the attribute's value as it is in a template:
	// quotes in data are escaped.
	fragmentAttribute = regexp.MustCompile(`data-fragment="([^"]*)"`)
)

func (g *gallery) render(ctx context.Context, name string) (*picture, error) {
	i := slices.IndexFunc(g.engines, func(e Engine) bool { return e.Name == name })
	if i < 0 {
		return nil, errNoEngine
	}
	p := &picture{Engine: name, Source: g.engines[i].Source}
	watched := tmpl.WithObserver(ctx, func(_ context.Context, e tmpl.Event) {
		if e.Depth == 0 {
			p.Version = uint64(e.Version)
		}
		if !e.Outcome.Served() {
			p.Rendered = append(p.Rendered, fragmentName(e))
		}
	})
	var body strings.Builder
	begun := time.Now()
	if err := g.engines[i].Render(watched, &body, &List{ctx: ctx, db: g.db}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.Took = time.Since(begun)
	slices.Sort(p.Rendered)
	// How a fragment was made cannot be part of the fragment.
	p.Body = htmltemplate.HTML(fragmentAttribute.ReplaceAllStringFunc(strings.TrimSpace(body.String()), func(attribute string) string {
		p.Total++
		made := "hit"
		if _, rendered := slices.BinarySearch(p.Rendered, fragmentAttribute.FindStringSubmatch(attribute)[1]); rendered {
			made = "miss"
		}
		return attribute + ` data-made="` + made + `"`
	}))
	return p, nil
}

// fragmentName is the value that data-fragment has in the fragment of an event.
func fragmentName(e tmpl.Event) string {
	if e.Depth > 0 {
		for _, t := range e.Tokens {
			if strings.HasPrefix(t, galleryRow) && !strings.HasSuffix(t, "*") {
				return t
			}
		}
	}
	return galleryList
}

// galleryPage is the data of the page around the lists.
type galleryPage struct {
	Pictures []*picture
	Films    []Film // to change
	chrome
}

func (s *server) gallery(w http.ResponseWriter, r *http.Request) {
	p := galleryPage{chrome: s.around("/gallery")}
	list := &List{ctx: r.Context(), db: s.db}
	ids, err := list.IDs()
	for _, id := range ids {
		var f Film
		if f, err = list.Film(id); err != nil {
			break
		}
		p.Films = append(p.Films, f)
	}
	for _, e := range s.pictures.engines {
		var one *picture
		if err == nil {
			one, err = s.pictures.render(r.Context(), e.Name)
		}
		p.Pictures = append(p.Pictures, one)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.write(w, r, "gallery", p)
}

// headerRendered names the fragments that were rendered, for scripts.
const headerRendered = "Icache-Rendered"

func (s *server) picture(w http.ResponseWriter, r *http.Request) {
	p, err := s.pictures.render(r.Context(), r.FormValue("engine"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set(headerRendered, strings.Join(p.Rendered, " "))
	w.Header().Set(headerVersion, strconv.FormatUint(p.Version, 10))
	s.write(w, r, "picture", p)
}

// turn turns the ratings of one film round.
func (s *server) turn(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PostFormValue("film"))
	if err != nil {
		http.Error(w, "turn: film is not a number", http.StatusBadRequest)
		return
	}
	s.change(w, r, "icache_demo.ratings", backTo(r), func(ctx context.Context) error { return s.db.turn(ctx, id) })
}
