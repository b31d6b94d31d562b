package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/tmpl"
	"github.com/icache-go/icache-agent/tmpl/httpcache"
)

// startVarnish starts a Varnish with the VCL in deploy/ in front of an app.
func startVarnish(t *testing.T, app string) (url string) {
	t.Helper()
	path, err := exec.LookPath("varnishd")
	if err != nil {
		path = "/usr/sbin/varnishd"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("no varnishd (Debian: apt-get install varnish varnish-modules)")
	}
	vcl, err := os.ReadFile("../../deploy/varnish.vcl")
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(app, "http://"))
	require.NoError(t, err)
	text := strings.NewReplacer(`.host = "127.0.0.1";`, `.host = "`+host+`";`, `.port = "8080";`, `.port = "`+port+`";`).Replace(string(vcl))
	require.NotEqual(t, string(vcl), text)
	dir, err := os.MkdirTemp("", "varnish") //nolint:usetesting // shorter than that of the test: a socket is in it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "icache.vcl")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	if out, err := exec.CommandContext(t.Context(), path, "-C", "-f", file).CombinedOutput(); err != nil && strings.Contains(string(out), "xkey") {
		t.Skip("varnishd without the module xkey (Debian: apt-get install varnish-modules)")
	}

	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command(path, "-F", "-j", "none", "-n", filepath.Join(dir, "work"), "-a", addr, "-f", file, "-s", "malloc,16m",
		"-p", "thread_pool_min=5", "-p", "thread_pools=1", "-p", "http_req_hdr_len=8k")
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, time.Minute, 20*time.Millisecond, "varnishd does not listen")
	return "http://" + addr
}

// page is an app behind a Varnish: a title, read from the database, that the
// Varnish may keep for an hour.
type page struct {
	*bundle
	varnish string
	renders atomic.Int32
	hold    atomic.Pointer[chan struct{}] // answers wait for it
}

func newPage(t *testing.T, repeat time.Duration) *page {
	t.Helper()
	p := &page{}
	var handler atomic.Pointer[http.Handler]
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	t.Cleanup(app.Close)
	p.varnish = startVarnish(t, app.URL)
	client := cdn.NewClient(5 * time.Second)
	t.Cleanup(client.CloseIdleConnections)
	p.bundle = setup(t, options{sinks: []cdn.Sink{{Name: "varnish", Cache: &cdn.Varnish{Client: client, URL: p.varnish}, RepeatAfter: repeat}}})
	pool, err := pgxpool.New(t.Context(), p.url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	m, err := httpcache.New(httpcache.Config{
		Cache: p.cache, Store: true, Tags: []httpcache.TagStyle{httpcache.Varnish},
		Fragment: func(r *http.Request) (tmpl.Fragment, bool) {
			return tmpl.Fragment{Name: "page", Args: []any{"movie:" + strings.TrimPrefix(r.URL.Path, "/")}}, true
		},
	})
	require.NoError(t, err)
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var title string
		if err := pool.QueryRow(r.Context(), "SELECT title FROM movies WHERE id = $1", strings.TrimPrefix(r.URL.Path, "/")).Scan(&title); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		p.renders.Add(1)
		if hold := p.hold.Load(); hold != nil {
			<-*hold
		}
		w.Header().Set("Cache-Control", "s-maxage=3600")
		fmt.Fprint(w, title)
	}))
	handler.Store(&h)
	p.quiet(t)
	return p
}

// get returns what Varnish serves, and whether it had it.
func (p *page) get(ctx context.Context, t *testing.T, path string) (text string, hit bool) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.varnish+path, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	require.Empty(t, resp.Header.Get("Xkey"), "is for Varnish alone")
	return string(body), strings.Contains(resp.Header.Get("X-Varnish"), " ")
}

func (p *page) becomes(t *testing.T, path, want string) {
	t.Helper()
	require.Eventually(t, func() bool { text, _ := p.get(t.Context(), t, path); return text == want }, 30*time.Second, 10*time.Millisecond)
}

func TestVarnish(t *testing.T) {
	t.Parallel()
	p := newPage(t, 0)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	for _, path := range []string{"/1", "/2"} {
		_, _ = p.get(t.Context(), t, path)
		_, hit := p.get(t.Context(), t, path)
		require.True(t, hit, "Varnish keeps pages")
	}
	renders := p.renders.Load()

	began := time.Now()
	p.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	p.becomes(t, "/1", "Heat!")
	t.Logf("fresh behind Varnish %s after the commit", time.Since(began).Round(time.Millisecond))
	_, hit := p.get(t.Context(), t, "/2")
	require.True(t, hit, "another page is left alone")
	require.Equal(t, renders+1, p.renders.Load())

	// A group, by a statement of which nobody knows the rows.
	_, _ = p.get(t.Context(), t, "/1")
	p.exec(t, "ALTER TABLE movies DISABLE TRIGGER ALL; UPDATE movies SET title = title || '?'; ALTER TABLE movies ENABLE TRIGGER ALL")
	p.exec(t, "SELECT icache.record('movies'::regclass, 'U', NULL)")
	p.becomes(t, "/1", "Heat!?")
	p.becomes(t, "/2", "Alien?")

	// Only purgers may, and a VCL that does not know purges is noticed.
	sink := p.options.sinks[0]
	require.NoError(t, cdn.Check(t.Context(), sink))
	long := []string{strings.Repeat("a", 3000), strings.Repeat("b", 2990)}
	require.NoError(t, sink.Cache.Purge(t.Context(), long), "as much as the limits allow")
}

// A page that was rendered before a change, and reaches Varnish after the purge,
// is purged the second time.
func TestVarnishGetsAPageTooLate(t *testing.T) {
	t.Parallel()
	p := newPage(t, 5*time.Second)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	hold := make(chan struct{})
	p.hold.Store(&hold)
	got := make(chan string, 1)
	go func() {
		text, _ := p.get(context.WithoutCancel(t.Context()), t, "/1")
		got <- text
	}()
	require.Eventually(t, func() bool { return p.renders.Load() == 1 }, 20*time.Second, 5*time.Millisecond)
	before := p.cdn(t).Purged
	p.exec(t, "UPDATE movies SET title = 'Heat!' WHERE id = 1")
	require.Eventually(t, func() bool { return p.cdn(t).Purged > before }, 20*time.Second, time.Millisecond)
	close(hold)
	require.Equal(t, "Heat", <-got, "rendered before the change")
	p.hold.Store(nil)
	p.becomes(t, "/1", "Heat!")
}
