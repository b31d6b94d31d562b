package cdn

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/icache-go/icache-agent/tmpl/httpcache"
)

// FastlyURL is where the API of Fastly is.
const FastlyURL = "https://api.fastly.com"

// Fastly is a service of Fastly, purged by surrogate keys.
type Fastly struct {
	Client  *http.Client
	URL     string // of the API
	Service string // id
	Token   string // with the scope purge_select
	Soft    bool   // mark as stale, do not remove
}

// Key implements [Cache].
func (f *Fastly) Key(token string) string { return httpcache.Fastly.Tag(token) }

// Limits implements [Cache]: the API takes up to 256 keys a call.
func (f *Fastly) Limits() Limits { return Limits{Keys: 256, Bytes: 256 << 10} }

// String implements [Cache].
func (f *Fastly) String() string { return "fastly service " + f.Service }

// Close implements [Cache].
func (f *Fastly) Close() { f.Client.CloseIdleConnections() }

// Purge implements [Cache].
func (f *Fastly) Purge(ctx context.Context, keys []string) error {
	body, err := json.Marshal(map[string][]string{"surrogate_keys": keys})
	if err != nil {
		return fmt.Errorf("encode the keys: %w", err)
	}
	return f.send(ctx, "purge", string(body), f.Soft)
}

// PurgeAll implements [Cache]. It needs the scope purge_all, and cannot be soft.
func (f *Fastly) PurgeAll(ctx context.Context) error { return f.send(ctx, "purge_all", "", false) }

func (f *Fastly) send(ctx context.Context, what, body string, soft bool) error {
	req, err := post(f.URL+"/service/"+url.PathEscape(f.Service)+"/"+what, body)
	if err != nil {
		return err
	}
	req.Header.Set("Fastly-Key", f.Token)
	if soft {
		req.Header.Set("Fastly-Soft-Purge", "1")
	}
	_, _, err = do(ctx, f.Client, req, f.Token) //nolint:bodyclose // do has closed it
	return err
}
