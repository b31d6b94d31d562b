package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fastly stands in for the API of a CDN.
type fastly struct {
	*httptest.Server
	mu     sync.Mutex
	down   bool
	purged []string
	asked  int
}

func newFastly(t *testing.T) *fastly {
	t.Helper()
	f := &fastly{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Keys []string `json:"surrogate_keys"`
		}
		if r.Method != http.MethodPost || r.URL.Path != "/service/abc/purge" || r.Header.Get("Fastly-Key") != "s3cret" ||
			json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusNotImplemented)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked++
		if f.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		f.purged = append(f.purged, body.Keys...)
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fastly) set(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.purged = down, nil
}

func (f *fastly) has(keys ...string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !slices.ContainsFunc(keys, func(k string) bool { return !slices.Contains(f.purged, k) })
}

// TestAgentKilledWhileACDNIsDown: kill -9 at any moment loses no purge, whether
// it was in the table already or not.
func TestAgentKilledWhileACDNIsDown(t *testing.T) {
	t.Parallel()
	f := newFastly(t)
	s := sharedStack(t, `  - {table: movies, tokens: ["movie:{id}"]}`+"\n"+
		fmt.Sprintf("cdn:\n  - {type: fastly, service: abc, url: %q, repeat_after: 0s}\n", f.URL))
	s.exec(t, "CREATE TABLE movies (id int PRIMARY KEY, title text); INSERT INTO movies SELECT i, 'Heat' FROM generate_series(1, 100) AS i")
	succeed(t, "migrate", "up", "-c", s.config)
	path, err := binary()
	require.NoError(t, err)
	start := func() *agent {
		t.Helper()
		a := launchBinary(t, path, s.config, "FASTLY_API_TOKEN=s3cret")
		a.awaitReady(t)
		return a
	}
	a := start()
	require.Eventually(t, func() bool {
		return f.has("*") && query[int](t, s, "SELECT count(*) FROM icache.cursor") == 1 && query[int](t, s, "SELECT count(*) FROM icache.purges") == 0
	}, readyTimeout, 10*time.Millisecond, "the first start purges everything")

	f.set(true)
	var want []string
	change := func(id int) {
		before := s.value(t, fmt.Sprint("movie:", id))
		s.exec(t, "UPDATE movies SET title = title || '!' WHERE id = $1", id)
		s.awaitBump(t, fmt.Sprint("movie:", id), before) // Redis is not held back
		want = append(want, fmt.Sprint("movie:", id))
	}
	for id := 1; id <= 3; id++ { // killed before they are written down
		change(id)
		a.kill()
		a = start()
	}
	for id := 4; id <= 10; id++ {
		change(id)
	}
	require.Eventually(t, func() bool { return query[int](t, s, "SELECT count(DISTINCT key) FROM icache.purges") == 10 },
		readyTimeout, 20*time.Millisecond, "written down while the CDN is down")
	require.Eventually(t, func() bool {
		return query[bool](t, s, `SELECT NOT EXISTS (SELECT FROM icache.outbox AS o, icache.cursor AS c WHERE NOT pg_visible_in_snapshot(o.xid, c.snap))`)
	}, readyTimeout, 20*time.Millisecond, "the outbox need not keep them")
	a.kill()
	require.False(t, f.has("movie:1"))

	f.set(false)
	a = start()
	require.Eventually(t, func() bool { return f.has(want...) }, readyTimeout, 10*time.Millisecond, "%v", want)
	require.False(t, f.has("*"), "nothing else is purged")
	require.Eventually(t, func() bool { return query[int](t, s, "SELECT count(*) FROM icache.purges") == 0 }, readyTimeout, 20*time.Millisecond)
	a.terminate(t)
	require.NotContains(t, a.log.String(), "s3cret")
	config, err := os.ReadFile(s.config)
	require.NoError(t, err)
	require.NotContains(t, string(config), "s3cret")
}
