package demo

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl"
	cached "github.com/icache-go/icache-agent/tmpl/html/template"
)

//go:embed templates
var templatesFS embed.FS

// The panels, each of which is one cached fragment, and their templates.
var panelTemplates = []struct{ name, title, file string }{
	{"films", "Films by rating", "films.html"},
	{"film", "A film", "film.html"},
	{"mine", "Personal list", "mine.html"},
}

var errNoPanel = errors.New("no such panel")

// panels renders the cached fragments and finds out how each was made.
type panels struct {
	templates *cached.Template
	cache     *icache.Cache
	db        database
	sources   []source
}

// panel is one rendered fragment and what is known about it.
type panel struct {
	Name, Title string
	Body        template.HTML
	Hit         bool
	Took        time.Duration // rendering or fetching, as the visitor waits for it
	Version     uint64
	Tokens      []token

	// The form below the fragment, which is not cached.
	Form   bool
	Viewer viewer
	FilmID int
	Stars  int
	Scale  []int
}

// token is one that a fragment depends on.
type token struct {
	Name    string
	Value   uint64
	Implied bool // a group or the generation: no template names it
}

func newPanels(cache *icache.Cache, db database) (*panels, error) {
	p := &panels{cache: cache, db: db, templates: cached.New("panels").Funcs(funcs).Cache(cache)}
	for _, t := range panelTemplates {
		text, err := fs.ReadFile(templatesFS, "templates/"+t.file)
		if err != nil {
			return nil, err
		}
		if _, err := p.templates.New(t.file).Parse(string(text)); err != nil {
			return nil, err
		}
		p.sources = append(p.sources, source{t.file, strings.TrimSpace(string(text))})
	}
	return p, nil
}

// render renders a panel for a view.
func (p *panels) render(ctx context.Context, name string, v *view) (*panel, error) {
	i := slices.IndexFunc(panelTemplates, func(t struct{ name, title, file string }) bool { return t.name == name })
	if i < 0 {
		return nil, errNoPanel
	}
	var fragment tmpl.Event // of the template's one block
	watched := tmpl.WithObserver(ctx, func(_ context.Context, e tmpl.Event) { fragment = e })
	var body bytes.Buffer
	begun := time.Now()
	if err := p.templates.ExecuteTemplateContext(watched, &body, panelTemplates[i].file, v); err != nil {
		return nil, err
	}
	out := &panel{
		Name: name, Title: panelTemplates[i].title, Took: time.Since(begun),
		Body:    template.HTML(bytes.TrimSpace(body.Bytes())), // made by html/template
		Hit:     fragment.Outcome.Served(),
		Version: uint64(fragment.Version),
	}
	if name == "mine" {
		out.Title = "For " + v.Viewer.Name
	}
	values, err := p.cache.Values(ctx, fragment.Tokens...)
	if err != nil {
		return nil, fmt.Errorf("read the tokens to show: %w", err)
	}
	for _, t := range fragment.Tokens {
		out.Tokens = append(out.Tokens, token{Name: t, Value: values[t], Implied: strings.HasSuffix(t, "*")})
	}
	slices.SortStableFunc(out.Tokens, func(a, b token) int {
		switch {
		case a.Implied == b.Implied:
			return 0
		case a.Implied:
			return 1
		}
		return -1
	})
	if name == "film" {
		out.Form, out.Viewer, out.FilmID, out.Scale = true, v.Viewer, v.FilmID, []int{1, 2, 3, 4, 5}
		if out.Stars, err = p.db.stars(ctx, v.Viewer.ID, v.FilmID); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Headers of a panel, for scripts. Cache-Status is that of RFC 9211.
const (
	headerStatus  = "Cache-Status"
	headerVersion = "Icache-Version"
	headerTokens  = "Icache-Tokens"
	statusHit     = "icache; hit"
	statusMiss    = "icache; fwd=miss; stored"
)

func (p *panel) setHeaders(h http.Header) {
	status := statusMiss
	if p.Hit {
		status = statusHit
	}
	h.Set(headerStatus, status)
	h.Set(headerVersion, strconv.FormatUint(p.Version, 10))
	names := make([]string, len(p.Tokens))
	for i, t := range p.Tokens {
		names[i] = t.Name
	}
	h.Set(headerTokens, strings.Join(names, " "))
	h.Set("Server-Timing", fmt.Sprintf("panel;dur=%.3f", float64(p.Took)/float64(time.Millisecond)))
}
