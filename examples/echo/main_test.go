package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icachetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a store that counts.
type fake struct {
	calls  int
	movies []Movie
	err    error
	then   func() // after the list has been read, once
}

func (s *fake) Movies(context.Context) ([]int, error) {
	s.calls++
	var ids []int
	for _, m := range s.movies {
		ids = append(ids, m.ID)
	}
	if then := s.then; then != nil {
		s.then = nil
		then()
	}
	return ids, s.err
}

func (s *fake) Movie(_ context.Context, id int) (Movie, error) { return s.movies[id-1], s.err }

// site is a server; requests with the header Fresh bypass the cache.
func site(t *testing.T, cache *icache.Cache, store Store) func(path string, fresh bool) (int, string) {
	t.Helper()
	handler, err := NewHandler(cache, store)
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Fresh") != "" {
			r = r.WithContext(icache.Bypass(r.Context()))
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return func(path string, fresh bool) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		require.NoError(t, err)
		if fresh {
			req.Header.Set("Fresh", "1")
		}
		resp, err := server.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if resp.StatusCode == http.StatusOK {
			require.Equal(t, "text/html; charset=UTF-8", resp.Header.Get("Content-Type"))
		}
		return resp.StatusCode, string(body)
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	cache := icachetest.New(t)
	store := &fake{movies: []Movie{{1, "Alien <3"}, {2, "Ran"}}}
	get := site(t, cache, store)
	page := func(fresh bool) string {
		t.Helper()
		status, body := get("/movies", fresh)
		require.Equal(t, http.StatusOK, status)
		return body
	}
	const want = "<!DOCTYPE html>\n<title>Movies</title>\n<ul>\n\t<li>Alien &lt;3</li>\n\t<li>Ran</li>\n</ul>\n"
	require.Equal(t, want, page(false))
	require.Equal(t, want, page(false))
	require.Equal(t, 1, store.calls, "the list is cached")

	store.movies[1].Title = "Kagemusha"
	require.Contains(t, page(false), "Ran")
	require.Contains(t, page(true), "Kagemusha", "the request's context bypasses the cache")
	require.NoError(t, cache.Incr(t.Context(), "movie:2"))
	require.Contains(t, page(false), "Kagemusha", "the list depends on its rows")
}

// A movie that changes between the list and its row is not kept as it was.
func TestChangeMeanwhile(t *testing.T) {
	t.Parallel()
	cache := icachetest.New(t)
	store := &fake{movies: []Movie{{1, "Alien"}, {2, "Ran"}}}
	store.then = func() {
		store.movies[1].Title = "Kagemusha"
		require.NoError(t, cache.Incr(t.Context(), "movies", "movie:2"))
	}
	get := site(t, cache, store)
	get("/movies", false) // began before the change
	_, body := get("/movies", false)
	require.Contains(t, body, "Kagemusha")
}

func TestError(t *testing.T) {
	t.Parallel()
	store := &fake{err: errors.New("no database")}
	cache := icachetest.New(t)
	get := site(t, cache, store)
	status, body := get("/movies", false)
	require.Equal(t, http.StatusInternalServerError, status)
	require.JSONEq(t, `{"message":"Internal Server Error"}`, body, "nothing of the page is sent")

	store.err, store.movies = nil, []Movie{{1, "Ran"}}
	status, body = get("/movies", false)
	require.Equal(t, http.StatusOK, status, "and nothing is cached")
	require.Contains(t, body, "Ran")
}

// The error says where in which template.
func TestErrorIsCarried(t *testing.T) {
	t.Parallel()
	bad := errors.New("no database")
	handler, err := NewHandler(icachetest.New(t), &fake{err: bad})
	require.NoError(t, err)
	var got error
	handler.HTTPErrorHandler = func(err error, c echo.Context) { got = err }
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/movies", nil))
	require.ErrorIs(t, got, bad)
	require.ErrorContains(t, got, "movies.html:5:17")
}
