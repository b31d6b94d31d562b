package httpcache_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl"
	"github.com/icache-go/icache-agent/tmpl/httpcache"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// site is a handler behind the cache that counts its runs.
type site struct {
	cache   *icache.Cache
	handler http.Handler
	runs    int
	serve   http.HandlerFunc
}

func newSite(t *testing.T, cfg httpcache.Config) *site {
	t.Helper()
	s := &site{cache: cfg.Cache}
	s.serve = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "run %d", s.runs) }
	if cfg.Fragment == nil {
		cfg.Fragment = func(r *http.Request) (tmpl.Fragment, bool) {
			return tmpl.Fragment{Name: "page", Args: []any{"movies"}}, r.URL.Path != "/through"
		}
	}
	m, err := httpcache.New(cfg)
	require.NoError(t, err)
	s.handler = m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.runs++
		s.serve(w, r)
	}))
	return s
}

// get sends a request; headers are "Name: value".
func (s *site) get(t *testing.T, target string, headers ...string) *http.Response {
	t.Helper()
	method := http.MethodGet
	if m, rest, ok := strings.Cut(target, " "); ok {
		method, target = m, rest
	}
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

func TestValidators(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t), Vary: []string{"accept-language"}})
	first := s.get(t, "/")
	etag := first.Header.Get("Etag")
	require.Regexp(t, `^W/"[\w-]{16}"$`, etag)
	require.Equal(t, "run 1", body(t, first))
	require.Equal(t, "private, no-cache", first.Header.Get("Cache-Control"))
	require.Equal(t, "Accept-Language", first.Header.Get("Vary"))
	require.Equal(t, "icache; fwd=miss; stored", first.Header.Get("Cache-Status"))

	again := s.get(t, "/", "If-None-Match: "+etag)
	require.Equal(t, http.StatusNotModified, again.StatusCode)
	require.Empty(t, body(t, again))
	require.Equal(t, 1, s.runs, "a 304 needs no handler")
	require.Equal(t, etag, again.Header.Get("Etag"))
	require.Equal(t, "private, no-cache", again.Header.Get("Cache-Control"))
	require.Equal(t, "Accept-Language", again.Header.Get("Vary"))
	require.Equal(t, "icache; hit", again.Header.Get("Cache-Status"))
	require.Empty(t, again.Header.Get("Content-Type"))

	other := s.get(t, "/", "If-None-Match: \"other\"")
	require.Equal(t, "run 2", body(t, other), "without Store the handler runs")
	require.Equal(t, etag, other.Header.Get("Etag"))
	require.Equal(t, "icache; fwd=request", other.Header.Get("Cache-Status"))

	require.NoError(t, s.cache.Incr(t.Context(), "movies"))
	changed := s.get(t, "/", "If-None-Match: "+etag)
	require.Equal(t, "run 3", body(t, changed))
	require.NotEqual(t, etag, changed.Header.Get("Etag"))

	// What tells responses apart.
	for _, resp := range []*http.Response{s.get(t, "/?q=1"), s.get(t, "/other"), s.get(t, "/", "Accept-Language: de")} {
		require.Equal(t, "icache; fwd=miss; stored", resp.Header.Get("Cache-Status"))
		require.NotEqual(t, changed.Header.Get("Etag"), resp.Header.Get("Etag"))
	}
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t), Store: true})
	etag := s.get(t, "/").Header.Get("Etag")
	strong := strings.TrimPrefix(etag, "W/")
	for header, want := range map[string]int{
		etag: 304, strong: 304, "*": 304, `"a", ` + etag: 304, `W/"a" , "b,c",` + etag + `, "d"`: 304,
		`"a"`: 200, strings.Trim(strong, `"`): 200, `"`: 200, "W/": 200, ",": 200, `"a` + strong: 200, "": 200,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp := s.get(t, method+" /", "If-None-Match: "+header)
			require.Equal(t, want, resp.StatusCode, "%s %s", method, header)
		}
	}
	require.Equal(t, 304, s.get(t, "/", `If-None-Match: "a"`, "If-None-Match: "+etag).StatusCode, "two headers")
	require.Equal(t, 1, s.runs)
}

func TestStore(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t), Store: true})
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "GET", r.Method, "what is kept is whole")
		require.Empty(t, r.Header.Get("Range"))
		w.Header().Set("Content-Type", "text/x-test")
		w.Header().Set("Cache-Control", "public, max-age=5")
		_, _ = io.WriteString(w, "0123456789")
	}
	head := s.get(t, "HEAD /", "Range: bytes=0-1")
	require.Equal(t, 200, head.StatusCode, "Range is defined for GET")
	etag := head.Header.Get("Etag")
	for range 2 {
		full := s.get(t, "/")
		require.Equal(t, "0123456789", body(t, full))
		require.Equal(t, "text/x-test", full.Header.Get("Content-Type"))
		require.Equal(t, "public, max-age=5", full.Header.Get("Cache-Control"))
		require.Equal(t, "10", full.Header.Get("Content-Length"))
		require.Equal(t, "icache; hit", full.Header.Get("Cache-Status"))
		require.Equal(t, etag, full.Header.Get("Etag"))
	}
	part := s.get(t, "/", "Range: bytes=2-4")
	require.Equal(t, 206, part.StatusCode)
	require.Equal(t, "234", body(t, part))
	require.Equal(t, "bytes 2-4/10", part.Header.Get("Content-Range"))
	require.Equal(t, 416, s.get(t, "/", "Range: bytes=20-").StatusCode)
	require.Equal(t, 200, s.get(t, "/", "Range: bytes=2-4", "If-Range: "+etag).StatusCode, "a weak ETag does not do for If-Range")
	require.Equal(t, 304, s.get(t, "/", "Range: bytes=2-4", "If-None-Match: "+etag).StatusCode)
	require.Equal(t, 412, s.get(t, "/", "If-Match: \"other\"").StatusCode)
	require.Equal(t, 1, s.runs)
}

func TestNested(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	for _, store := range []bool{false, true} {
		s := newSite(t, httpcache.Config{Cache: cache, Store: store})
		s.serve = func(w http.ResponseWriter, r *http.Request) {
			err := tmpl.Write(r.Context(), w, cache, "row", []any{"movie:1"}, func(_ context.Context, w io.Writer) error {
				_, err := io.WriteString(w, "row")
				return err
			})
			require.NoError(t, err)
		}
		etag := s.get(t, "/").Header.Get("Etag")
		require.Equal(t, 304, s.get(t, "/", "If-None-Match: "+etag).StatusCode)
		require.NoError(t, cache.Incr(t.Context(), "movie:1"))
		require.Equal(t, 200, s.get(t, "/", "If-None-Match: "+etag).StatusCode, "tokens of blocks inside count")
	}
}

func TestNotKept(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	for name, serve := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound); fmt.Fprint(w, "x") },
		"cookie": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Set-Cookie", "a=b"); fmt.Fprint(w, "x") },
		"no-store": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "private, No-Store")
			fmt.Fprint(w, "x")
		},
		"vary":   func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Vary", "Cookie"); fmt.Fprint(w, "x") },
		"vary *": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Vary", "*"); fmt.Fprint(w, "x") },
		"too long": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "x")
			fmt.Fprint(w, strings.Repeat("y", 100))
		},
		"flush": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "y")
		},
		"trailer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprint(w, "x")
		},
		"trailer unannounced": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "x")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		},
		"no store": func(w http.ResponseWriter, r *http.Request) { icache.NoStore(r.Context()); fmt.Fprint(w, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, store := range []bool{false, true} {
				s := newSite(t, httpcache.Config{Cache: cache, Store: store, MaxBytes: 50, Version: name})
				s.serve = serve
				want := httptest.NewRecorder()
				serve(want, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
				for range 2 {
					got := s.get(t, "/", "If-None-Match: *")
					require.Equal(t, want.Code, got.StatusCode)
					require.Equal(t, want.Body.String(), body(t, got))
					require.Equal(t, want.Header().Values("Set-Cookie"), got.Header.Values("Set-Cookie"))
					require.Empty(t, got.Header.Get("Etag"))
					require.Equal(t, "icache; fwd=miss", got.Header.Get("Cache-Status"))
				}
				require.Equal(t, 2, s.runs)
			}
		})
	}
}

func TestPassedThrough(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t), Fragment: func(r *http.Request) (tmpl.Fragment, bool) {
		return tmpl.Fragment{Name: "page", Args: []any{r.URL.Query().Get("token")}}, r.URL.Path != "/through"
	}})
	for i, target := range []string{"POST /?token=a", "/through?token=a", "/", "DELETE /?token=a"} {
		require.Equal(t, fmt.Sprint("run ", i+1), body(t, s.get(t, target)))
	}
	require.Equal(t, "icache; fwd=bypass; detail=argument", s.get(t, "/").Header.Get("Cache-Status"))
	_, err := httpcache.New(httpcache.Config{})
	require.EqualError(t, err, "httpcache: Config.Fragment is nil")
}

func TestHeadersOfTheRequestAreNotKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t), Store: true})
	inner := s.handler
	n := 0
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("X-Request-Id", fmt.Sprint(n))
		inner.ServeHTTP(w, r)
	})
	require.Equal(t, "1", s.get(t, "/").Header.Get("X-Request-Id"))
	require.Equal(t, "2", s.get(t, "/").Header.Get("X-Request-Id"))
	require.Equal(t, 1, s.runs)
}

func TestPanic(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t)})
	s.serve = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { s.get(t, "/") })
	s.serve = func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "fine") }
	require.Equal(t, "fine", body(t, s.get(t, "/")))
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	s := newSite(t, httpcache.Config{Cache: tmpltest.CacheAt(t, server.URL()), Store: true})
	etag := s.get(t, "/").Header.Get("Etag")
	require.NoError(t, server.Stop())
	resp := s.get(t, "/", "If-None-Match: "+etag)
	require.Equal(t, "run 2", body(t, resp))
	require.Empty(t, resp.Header.Get("Etag"))
}

func TestTags(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{
		Cache: tmpltest.Cache(t), Store: true, Tags: []httpcache.TagStyle{httpcache.Fastly, httpcache.Cloudflare},
		Fragment: func(*http.Request) (tmpl.Fragment, bool) {
			return tmpl.Fragment{Name: "page", Args: []any{"movie:1", "a b"}}, true
		},
	})
	for range 2 {
		h := s.get(t, "/").Header
		require.ElementsMatch(t, []string{"*", icache.HashToken("a b"), "movie:*", "movie:1", "page"}, strings.Split(h.Get("Surrogate-Key"), " "))
		require.ElementsMatch(t, []string{"*", icache.HashToken("a b"), "movie:*", "movie:1", "page"}, strings.Split(h.Get("Cache-Tag"), ","))
	}
	h := make(http.Header)
	httpcache.Akamai.Set(h, []string{"plain", "movie:1"})
	require.Equal(t, "plain,"+icache.HashToken("movie:1"), h.Get("Edge-Cache-Tag"))
	httpcache.Akamai.Set(h, make([]string, 200))
	require.Empty(t, h.Get("Edge-Cache-Tag"))
	require.Equal(t, "no-store", h.Get("CDN-Cache-Control"))
}

// A CDN must not keep what carries no tags, whatever the handler says: nobody
// could tell it to drop that.
func TestWithoutTagsNoCDNKeepsIt(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	s := newSite(t, httpcache.Config{
		Cache: tmpltest.CacheAt(t, server.URL()), MaxBytes: 10, Tags: []httpcache.TagStyle{httpcache.Varnish},
	})
	text, status := "short", http.StatusOK
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "s-maxage=3600")
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
	get := func() http.Header { return s.get(t, "/").Header }
	kept := func(h http.Header) bool {
		require.Equal(t, "s-maxage=3600", h.Get("Cache-Control"))
		require.Equal(t, h.Get("Surrogate-Control"), h.Get("CDN-Cache-Control"))
		require.Equal(t, h.Get("Xkey") == "", h.Get("Surrogate-Control") == "no-store", h)
		return h.Get("Xkey") != ""
	}
	require.True(t, kept(get()))
	require.True(t, kept(get()), "a hit")
	text = "too long to be kept"
	require.False(t, kept(get()), "passed on, in place of what is known")
	require.NoError(t, s.cache.Incr(t.Context(), "movies"))
	require.False(t, kept(get()), "passed on")
	text, status = "short", http.StatusNotFound
	require.False(t, kept(get()), "an error")
	require.NoError(t, server.Stop())
	status = http.StatusOK
	require.False(t, kept(get()), "of no known version")
}
