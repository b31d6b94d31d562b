package doctor

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/cdn"
)

func TestCDN(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Fastly-Key") != "s3cret" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	client := cdn.NewClient(5 * time.Second)
	t.Cleanup(client.CloseIdleConnections)
	examine := func(url string) Finding {
		p := &patient{cfg: Config{Sinks: []cdn.Sink{{Name: "edge", Cache: &cdn.Fastly{Client: client, URL: url, Service: "abc", Token: "s3cret"}}}}}
		p.cdn(t.Context())
		require.Len(t, p.findings, 1)
		return p.findings[0]
	}
	require.Equal(t, Finding{Check: "cdn edge", Level: OK, Found: "fastly service abc takes purges"}, examine(server.URL))
	for code, hint := range map[int]string{401: "check the token", 403: "check the token", 404: "check the id", 429: "write a lower rate", 500: "check that it is up"} {
		status = code
		f := examine(server.URL)
		require.Equal(t, Serious, f.Level)
		require.Contains(t, f.Hint, hint)
		require.Contains(t, f.Found, "fastly service abc: it answered ")
	}
	f := examine("http://127.0.0.1:1")
	require.Equal(t, Serious, f.Level)
	require.Contains(t, f.Found, "connection refused")
	require.NotContains(t, f.Found, "s3cret")
}
