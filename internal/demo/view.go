package demo

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"
)

// view is the data of the three cached templates. Its methods query the
// database, so what a template does not come to, because its fragment is in the
// cache, is not queried.
type view struct {
	Viewer viewer
	FilmID int

	ctx   context.Context
	db    database
	rated []film
}

// Name is the viewer's name as it is now. What a fragment shows has to be read
// inside of it: read before, it could be older than the fragment's version.
func (v *view) Name() (string, error) { return v.db.viewerName(v.ctx, v.Viewer.ID) }

// TopFilms are the films with the best ratings.
func (v *view) TopFilms() ([]film, error) {
	films, err := v.db.top(v.ctx)
	return films[:min(len(films), topFilms)], err
}

// RatedFilms are the films that the viewer has rated, favourites first.
func (v *view) RatedFilms() ([]film, error) {
	var err error
	if v.rated == nil {
		v.rated, err = v.db.rated(v.ctx, v.Viewer.ID)
	}
	return v.rated, err
}

// Film is the film that the page shows.
func (v *view) Film() (film, error) { return v.db.film(v.ctx, v.FilmID) }

// Votes are the ratings of that film.
func (v *view) Votes() ([]vote, error) { return v.db.votes(v.ctx, v.FilmID) }

const (
	topFilms   = 16
	favourites = 6
	mostStars  = 5
)

// funcs are the functions of all templates.
var funcs = template.FuncMap{
	"join":       func(s []string) string { return strings.Join(s, ", ") },
	"stars":      stars,
	"favourites": func(f []film) []film { return f[:min(len(f), favourites)] },
	"ms":         milliseconds,
	"short":      short,
}

// stars draws a rating. It is read out as "4 of 5 stars".
func stars(n int) template.HTML {
	n = min(mostStars, max(0, n))
	return template.HTML(fmt.Sprintf(`<span class="stars" role="img" aria-label="%d of %d stars">%s<i>%s</i></span>`,
		n, mostStars, strings.Repeat("★", n), strings.Repeat("★", mostStars-n)))
}

func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 0.1:
		return "<0.1 ms"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// short leaves the end of a number, where it changes.
func short(n uint64) string {
	const digits = 7
	s := strconv.FormatUint(n, 10)
	if len(s) <= digits {
		return s
	}
	return "…" + s[len(s)-digits:]
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
