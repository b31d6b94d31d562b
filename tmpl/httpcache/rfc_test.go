package httpcache_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/tmpl/httpcache"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

// Conditions on times hold for the date that the handler gives, and those on
// ETags come first: RFC 9110 §13.2.2.
func TestConditions(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	const date, before, after = "Tue, 10 Nov 2026 10:00:00 GMT", "Tue, 10 Nov 2026 09:00:00 GMT", "Tue, 10 Nov 2026 11:00:00 GMT"
	for _, store := range []bool{true, false} {
		s := newSite(t, httpcache.Config{Cache: cache, Store: store})
		s.serve = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Last-Modified", date)
			_, _ = io.WriteString(w, "0123456789")
		}
		etag := s.get(t, "/").Header.Get("Etag")
		for _, tc := range []struct {
			status  int
			headers []string
		}{
			{304, []string{"If-Modified-Since: " + date}},
			{304, []string{"If-Modified-Since: " + after}},
			{200, []string{"If-Modified-Since: " + before}},
			{200, []string{"If-Modified-Since: yesterday"}},
			{200, []string{"If-Modified-Since: " + date, `If-None-Match: "other"`}},
			{304, []string{"If-Modified-Since: " + before, "If-None-Match: " + etag}},
			{412, []string{"If-Unmodified-Since: " + before}},
			{200, []string{"If-Unmodified-Since: " + date}},
			{200, []string{"If-Match: *"}},
			{412, []string{"If-Match: " + etag}}, // compared strongly, and weak
			{412, []string{"If-Match: " + etag, "If-None-Match: " + etag}},
			{304, []string{"If-Match: *", "If-None-Match: " + etag}},
			{206, []string{"Range: bytes=0-0", "If-Range: " + date}},
			{200, []string{"Range: bytes=0-0", "If-Range: " + before}},
			{200, []string{"Range: bytes=0-0", "If-Range: " + etag}},
			{200, []string{"Range: bytes=0-0", "If-Range: " + strings.TrimPrefix(etag, "W/")}},
			{206, []string{"Range: bytes=0-0,2-3"}},
			{206, []string{"Range: bytes=-4"}},
			{200, []string{"Range: lines=1-2"}},
			{304, []string{"Range: bytes=0-0", "If-None-Match: *"}},
		} {
			get := s.get(t, "/", tc.headers...)
			require.Equal(t, tc.status, get.StatusCode, "store %t: %v", store, tc.headers)
			head := s.get(t, "HEAD /", tc.headers...)
			require.Empty(t, body(t, head))
			if !strings.HasPrefix(tc.headers[0], "Range") {
				require.Equal(t, tc.status, head.StatusCode, "store %t: %v", store, tc.headers)
				require.Equal(t, get.Header, head.Header, "HEAD answers what GET does")
			}
			switch tc.status {
			case 200:
				require.Equal(t, "0123456789", body(t, get), tc.headers)
			case 304:
				require.Empty(t, body(t, get))
				require.Equal(t, etag, get.Header.Get("Etag"))
			}
		}
	}
}

// What a shared cache must not keep for others: RFC 9111 §3.5.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	for _, tc := range []struct {
		control string
		vary    []string
		kept    bool
	}{
		{"", nil, false},
		{"private, max-age=60", nil, false},
		{"public", nil, true},
		{"max-age=0, Must-Revalidate", nil, true},
		{"s-maxage=60", nil, true},
		{"public, no-store", nil, false},
		{"", []string{"authorization"}, true},
	} {
		s := newSite(t, httpcache.Config{Cache: cache, Store: true, Vary: tc.vary, Version: tc.control})
		s.serve = func(w http.ResponseWriter, r *http.Request) {
			if tc.control != "" {
				w.Header().Set("Cache-Control", tc.control)
			}
			fmt.Fprint(w, r.Header.Get("Authorization"))
		}
		for range 2 {
			require.Equal(t, "Bearer a", body(t, s.get(t, "/", "Authorization: Bearer a")))
		}
		require.Equal(t, tc.kept, s.runs == 1, tc)
		if !tc.kept || tc.vary != nil {
			require.Equal(t, "Bearer b", body(t, s.get(t, "/", "Authorization: Bearer b")))
			require.Empty(t, body(t, s.get(t, "/")))
		}
	}
}

// What is around the cache may set headers too; those of one connection are
// not kept; a path is told from another that only looks the same.
func TestHeadersAround(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t), Store: true, Vary: []string{"Accept"}})
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Connection", "X-Hop, close")
		h.Set("X-Hop", "1")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Content-Encoding", "x-test")
		h.Set("X-Early", "1")
		fmt.Fprint(w, r.URL.EscapedPath())
		h.Set("X-Late", "1")
		w.Header().Set("X-Late", "1")
	}
	inner := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Origin")
		w.Header().Add("Set-Cookie", "session=1")
		inner.ServeHTTP(w, r)
	})
	s.get(t, "/")
	hit := s.get(t, "/")
	require.Equal(t, "icache; hit", hit.Header.Get("Cache-Status"))
	h := hit.Header
	require.Equal(t, []string{"Origin", "Accept"}, h.Values("Vary"))
	require.Equal(t, []string{"session=1"}, h.Values("Set-Cookie"))
	require.Equal(t, "1", h.Get("X-Early"))
	require.Empty(t, h.Get("Content-Type"), "not guessed from encoded bytes")
	for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "X-Late"} {
		require.Empty(t, h.Get(name), name)
	}
	not := s.get(t, "/", "If-None-Match: "+h.Get("Etag"))
	require.Equal(t, 304, not.StatusCode)
	require.Equal(t, []string{"Origin", "Accept"}, not.Header.Values("Vary"))

	require.Equal(t, "/a/b", body(t, s.get(t, "/a/b")))
	require.Equal(t, "/a%2Fb", body(t, s.get(t, "/a%2Fb")))
	require.Equal(t, "icache; fwd=method", s.get(t, "POST /").Header.Get("Cache-Status"))
}

// serve starts a real server of a site.
func serve(t *testing.T, s *site) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(s.handler)
	t.Cleanup(server.Close)
	return server
}

func fetch(ctx context.Context, t *testing.T, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	return http.DefaultTransport.RoundTrip(req)
}

// A handler that streams for as long as the client stays holds up nobody, and
// hears of its own client's leaving.
func TestStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t)})
	begun, left := make(chan struct{}, 2), make(chan error, 2)
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			left <- err
			return
		}
		begun <- struct{}{}
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		left <- context.Cause(r.Context())
	}
	server := serve(t, s)
	var stop [2]context.CancelFunc
	for i := range stop {
		var ctx context.Context
		ctx, stop[i] = context.WithCancel(t.Context())
		defer stop[i]()
		resp, err := fetch(ctx, t, server.URL)
		require.NoError(t, err, "the first one still streams")
		defer resp.Body.Close()
		<-begun
		line := make([]byte, 7)
		_, err = io.ReadFull(resp.Body, line)
		require.NoError(t, err)
		require.Equal(t, "data: 1", string(line))
	}
	for _, stop := range stop {
		stop()
		require.ErrorIs(t, <-left, context.Canceled)
	}
}

func TestHijack(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t)})
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntaken")
		_ = rw.Flush()
		_ = conn.Close()
	}
	server := serve(t, s)
	for range 2 {
		resp, err := fetch(t.Context(), t, server.URL)
		require.NoError(t, err)
		require.Equal(t, "taken", body(t, resp))
		require.NoError(t, resp.Body.Close())
	}
}

func TestInterimResponsesAndTrailers(t *testing.T) {
	t.Parallel()
	s := newSite(t, httpcache.Config{Cache: tmpltest.Cache(t)})
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		h.Set("Trailer", "X-Sum")
		fmt.Fprint(w, "body")
		h.Set("X-Sum", "announced")
		h.Set(http.TrailerPrefix+"X-More", "not")
	}
	server := serve(t, s)
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h["Link"]))
			return nil
		},
	})
	resp, err := fetch(ctx, t, server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, []string{"103 [</a.css>; rel=preload]"}, hints)
	require.Equal(t, []string{"</a.css>; rel=preload"}, resp.Header.Values("Link"))
	require.Equal(t, "body", body(t, resp))
	require.Equal(t, "announced", resp.Trailer.Get("X-Sum"))
	require.Equal(t, "not", resp.Trailer.Get("X-More"))
}
