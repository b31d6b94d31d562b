package main

import (
	"bufio"
	"bytes"
	"context"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/demo"
	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// run runs the demo, as main does, and returns its address.
func run(t *testing.T, env map[string]string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, done := &output{}, make(chan error, 1)
	go func() {
		done <- demo.Run(ctx, demo.Options{Listen: "127.0.0.1:0", Engines: engines, Stdout: out, Stderr: out, Getenv: func(name string) string {
			if name == "PATH" {
				return os.Getenv(name)
			}
			return env[name]
		}})
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	open := regexp.MustCompile(`Open +(http://\S+)`)
	require.Eventually(t, func() bool { return open.MatchString(out.String()) }, time.Minute, 10*time.Millisecond)
	return open.FindStringSubmatch(out.String())[1]
}

func get(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	return resp, string(body)
}

// applied returns a function that waits for the next change that the agent has applied.
func applied(t *testing.T, site string) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site+"/events", nil)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	events := make(chan struct{}, 100)
	go func() {
		defer close(events)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if lines.Text() == "event: change" {
				events <- struct{}{}
			}
		}
	}()
	return func() {
		t.Helper()
		select {
		case _, ok := <-events:
			require.True(t, ok, "the stream has ended")
		case <-time.After(20 * time.Second):
			require.Fail(t, "not applied")
		}
	}
}

var (
	made   = regexp.MustCompile(` data-made="\w+"`)
	spaces = regexp.MustCompile(`\s*(<[^>]*>)\s*`)
)

// A change lights up the same fragments in every engine, which write the same list.
func TestEveryEngine(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DATABASE_URL": servertest.Postgres(t), "REDIS_URL": servertest.Redis(t)}
	site := run(t, env)
	wait := applied(t, site)
	db, err := pgx.Connect(t.Context(), env["DATABASE_URL"])
	require.NoError(t, err)
	defer db.Close(context.Background())

	names := []string{"html/template", "text/template", "pongo2", "gonja", "templ"}
	_, page := get(t, site+"/gallery")
	for _, name := range names {
		require.Contains(t, page, `id="picture-`+name+`"`)
	}
	require.Equal(t, 9*len(names), strings.Count(page, `data-fragment="`))

	const all = "film:1 film:11 film:12 film:14 film:24 film:5 film:6 film:7 list"
	for _, tc := range []struct{ sql, rendered, shows string }{
		{"UPDATE icache_demo.films SET title = '<Se7en> \"&''' WHERE id = 12", "film:12 list", `<Se7en> "&'`},
		{"UPDATE icache_demo.ratings SET stars = 1 WHERE film_id = 6", "film:6 list", "<b>1.00</b>"},
		{"UPDATE icache_demo.ratings SET stars = 1 WHERE film_id = 9", "", "Pulp Fiction"},  // not in the list
		{"UPDATE icache_demo.films SET year = 2024 WHERE id = 24", "film:32 list", "Fargo"}, // which takes its place
		{"UPDATE icache_demo.films SET year = 1994 WHERE id = 24", "film:24 list", "The Lion King"},
		{"UPDATE icache_demo.people SET name = name || ' Jr.'", all, "David Fincher Jr."},
		{"UPDATE icache_demo.viewers SET name = 'Nobody' WHERE id = 2", "", "Pulp Fiction"},
	} {
		_, err := db.Exec(t.Context(), tc.sql)
		require.NoError(t, err)
		wait()
		first := ""
		for _, name := range names {
			address := site + "/gallery/picture?engine=" + url.QueryEscape(name)
			resp, body := get(t, address)
			require.Equal(t, tc.rendered, resp.Header.Get("Icache-Rendered"), "%s after %s", name, tc.sql)
			again, _ := get(t, address)
			require.Empty(t, again.Header.Get("Icache-Rendered"), "%s after %s", name, tc.sql)

			_, list, _ := strings.Cut(body, "<ol")
			list, _, _ = strings.Cut(list, "</ol>")
			list = html.UnescapeString(spaces.ReplaceAllString(made.ReplaceAllString(list, ""), "$1"))
			require.Contains(t, list, tc.shows, name)
			if first == "" {
				first = list
			}
			require.Equal(t, first, list, "the same list in %s", name)
		}
	}
}
