package cdn_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/tmpl/httpcache"
)

const secret = "t0p-s3cret"

// request is what an API was asked.
type request struct {
	method, path, body string
	header             http.Header
}

// api stands in for the API of a CDN.
type api struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	answer   func(n int, w http.ResponseWriter) // to the n-th request, from 0
}

func newAPI(t *testing.T, answer func(n int, w http.ResponseWriter)) *api {
	t.Helper()
	a := &api{answer: answer}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a.mu.Lock()
		n := len(a.requests)
		a.requests = append(a.requests, request{r.Method, r.URL.EscapedPath(), string(body), r.Header.Clone()})
		answer := a.answer
		a.mu.Unlock()
		answer(n, w)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) seen() []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]request(nil), a.requests...)
}

func client(t *testing.T) *http.Client {
	t.Helper()
	c := cdn.NewClient(2 * time.Second)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func write(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func TestFastly(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(_ int, w http.ResponseWriter) { write(w, 200, `{"movie:1":"108-1391560174-974124"}`) })
	f := &cdn.Fastly{Client: client(t), URL: a.URL, Service: "SU1Z0is/x", Token: secret}
	require.NoError(t, f.Purge(t.Context(), []string{"movie:1", "genre:*", "*"}))
	f.Soft = true
	require.NoError(t, f.Purge(t.Context(), []string{"movie:1"}))
	require.NoError(t, f.PurgeAll(t.Context()))
	got := a.seen()
	require.Len(t, got, 3)
	for _, r := range got {
		require.Equal(t, "POST", r.method)
		require.Equal(t, secret, r.header.Get("Fastly-Key"))
		require.Equal(t, "application/json", r.header.Get("Content-Type"))
		require.Equal(t, "application/json", r.header.Get("Accept"))
	}
	require.Equal(t, "/service/SU1Z0is%2Fx/purge", got[0].path)
	require.JSONEq(t, `{"surrogate_keys":["movie:1","genre:*","*"]}`, got[0].body)
	require.NotContains(t, got[0].header, "Fastly-Soft-Purge")
	require.Equal(t, "1", got[1].header.Get("Fastly-Soft-Purge"))
	require.Equal(t, "/service/SU1Z0is%2Fx/purge_all", got[2].path)
	require.NotContains(t, got[2].header, "Fastly-Soft-Purge", "there is no such thing")
	require.Equal(t, 256, f.Limits().Keys)
}

func TestCloudflare(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(n int, w http.ResponseWriter) {
		if n == 2 { // of a failure that says 200
			write(w, 200, `{"success":false,"errors":[{"code":1012,"message":"Request must contain one of \"purge_everything\""}],"messages":[],"result":null}`)
			return
		}
		write(w, 200, `{"success":true,"errors":[],"messages":[],"result":{"id":"023e105f4ecef8ad9ca31a8372d0c353"}}`)
	})
	c := &cdn.Cloudflare{Client: client(t), URL: a.URL + "/client/v4", Zone: "023e105f", Token: secret}
	require.NoError(t, c.Purge(t.Context(), []string{"movie:1", "*"}))
	require.NoError(t, c.PurgeAll(t.Context()))
	require.ErrorContains(t, c.Purge(t.Context(), []string{"x"}), "1012")
	got := a.seen()
	for _, r := range got {
		require.Equal(t, "POST", r.method)
		require.Equal(t, "/client/v4/zones/023e105f/purge_cache", r.path)
		require.Equal(t, "Bearer "+secret, r.header.Get("Authorization"))
		require.Equal(t, "application/json", r.header.Get("Content-Type"))
	}
	require.JSONEq(t, `{"tags":["movie:1","*"]}`, got[0].body)
	require.JSONEq(t, `{"purge_everything":true}`, got[1].body)
	require.Equal(t, 100, c.Limits().Keys)
}

func TestVarnishRequests(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(n int, w http.ResponseWriter) {
		if n < 2 {
			w.Header().Set("Xkey-Purged", "0")
		}
	})
	v := &cdn.Varnish{Client: client(t), URL: a.URL}
	require.NoError(t, v.Purge(t.Context(), []string{"movie:1", "*"}))
	v.Soft = true
	require.NoError(t, v.Purge(t.Context(), []string{"movie:1"}))
	require.ErrorContains(t, v.Purge(t.Context(), []string{"movie:1"}), "deploy/varnish.vcl", "the app has answered, not the VCL")
	got := a.seen()
	require.Equal(t, []string{"PURGE", "/", "movie:1 *", ""}, []string{got[0].method, got[0].path, got[0].header.Get("Xkey-Purge"), got[0].header.Get("Xkey-Softpurge")})
	require.Equal(t, []string{"", "movie:1"}, []string{got[1].header.Get("Xkey-Purge"), got[1].header.Get("Xkey-Softpurge")})
	require.ErrorIs(t, v.PurgeAll(t.Context()), errors.ErrUnsupported)
	require.Equal(t, "varnish http://host:6081", (&cdn.Varnish{URL: "http://user:pw@host:6081"}).String())
}

func TestFailures(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(90 * time.Second)
	for name, tc := range map[string]struct {
		status int
		header map[string]string
		body   string
		want   string
		after  time.Duration // at least, and a minute more at most
	}{
		"too many":       {429, map[string]string{"Retry-After": "17"}, "slow\n\tdown", "it answered 429 Too Many Requests: slow down", 17 * time.Second},
		"too many until": {429, map[string]string{"Retry-After": soon.UTC().Format(http.TimeFormat)}, "", "it answered 429 Too Many Requests", 80 * time.Second},
		"too many, says Fastly": {429, map[string]string{"Fastly-RateLimit-Remaining": "0", "Fastly-RateLimit-Reset": "4102444800"}, "", "it answered 429 Too Many Requests",
			time.Until(time.Unix(4102444800, 0)) - time.Second},
		"unavailable":         {503, nil, "<html>" + strings.Repeat("x", 1000), "it answered 503 Service Unavailable: <html>" + strings.Repeat("x", 194) + "…", 0},
		"forbidden":           {403, nil, "token " + secret + " may not", "it answered 403 Forbidden: token (hidden) may not", 0},
		"redirect":            {302, map[string]string{"Location": "http://127.0.0.1:1/"}, "", "it answered 302 Found", 0},
		"a strange wish":      {500, map[string]string{"Retry-After": "-5"}, "", "it answered 500 Internal Server Error", 0},
		"another strange one": {500, map[string]string{"Retry-After": "soon"}, "", "it answered 500 Internal Server Error", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(_ int, w http.ResponseWriter) {
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				write(w, tc.status, tc.body)
			})
			for _, c := range []cdn.Cache{
				&cdn.Fastly{Client: client(t), URL: a.URL, Service: "s", Token: secret},
				&cdn.Cloudflare{Client: client(t), URL: a.URL, Zone: "z", Token: secret},
			} {
				err := c.Purge(t.Context(), []string{"movie:1"})
				require.EqualError(t, err, tc.want)
				e, ok := errors.AsType[*cdn.Error](err)
				require.True(t, ok)
				require.Equal(t, tc.status, e.Status)
				require.GreaterOrEqual(t, e.RetryAfter, tc.after)
				require.LessOrEqual(t, e.RetryAfter, tc.after+time.Minute)
				require.NotContains(t, c.String(), secret)
			}
		})
	}
}

func TestTimeoutAndNoAnswer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	a := newAPI(t, func(int, http.ResponseWriter) { <-release })
	t.Cleanup(func() { close(release) })
	slow := cdn.NewClient(50 * time.Millisecond)
	t.Cleanup(slow.CloseIdleConnections)
	f := &cdn.Fastly{Client: slow, URL: a.URL, Service: "s", Token: secret}
	err := f.Purge(t.Context(), []string{"a"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), secret)
	v := &cdn.Varnish{Client: slow, URL: "http://user:" + secret + "@127.0.0.1:1"}
	err = v.Purge(t.Context(), []string{"a"})
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), secret)
}

// The key that is purged is the one that package httpcache has written into the
// response, whatever the token.
func TestKeysAreThoseOfTheResponses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.OneOf(
			rapid.SampledFrom([]string{"*", "movie:*", "movie:42", "a b", "a,b", "ü", "tab\t", strings.Repeat("x", 3000)}),
			rapid.StringN(1, 20, -1),
		).Draw(t, "token")
		for _, tc := range []struct {
			cache cdn.Cache
			style httpcache.TagStyle
		}{
			{&cdn.Fastly{}, httpcache.Fastly}, {&cdn.Cloudflare{}, httpcache.Cloudflare}, {&cdn.Varnish{}, httpcache.Varnish},
		} {
			h := make(http.Header)
			tc.style.Set(h, []string{token})
			if got := tc.cache.Key(token); got != h.Get(tc.style.Header) {
				t.Fatalf("%s: key %q, header %q", tc.cache, got, h.Get(tc.style.Header))
			}
		}
	})
}
