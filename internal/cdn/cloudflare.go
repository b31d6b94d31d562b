package cdn

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/icache-go/icache-agent/tmpl/httpcache"
)

// CloudflareURL is where the API of Cloudflare is.
const CloudflareURL = "https://api.cloudflare.com/client/v4"

// Cloudflare is a zone of Cloudflare, purged by cache tags.
type Cloudflare struct {
	Client *http.Client
	URL    string // of the API
	Zone   string // id
	Token  string // with the permission Cache Purge on the zone
}

// Key implements [Cache]. Cloudflare takes upper case for lower case, which may
// purge more than asked for and never less.
func (c *Cloudflare) Key(token string) string { return httpcache.Cloudflare.Tag(token) }

// Limits implements [Cache]: the API takes up to 100 tags a call on every plan.
func (c *Cloudflare) Limits() Limits { return Limits{Keys: 100, Bytes: 100 << 10} }

// String implements [Cache].
func (c *Cloudflare) String() string { return "cloudflare zone " + c.Zone }

// Close implements [Cache].
func (c *Cloudflare) Close() { c.Client.CloseIdleConnections() }

// Purge implements [Cache].
func (c *Cloudflare) Purge(ctx context.Context, keys []string) error {
	return c.send(ctx, map[string]any{"tags": keys})
}

// PurgeAll implements [Cache].
func (c *Cloudflare) PurgeAll(ctx context.Context) error {
	return c.send(ctx, map[string]any{"purge_everything": true})
}

func (c *Cloudflare) send(ctx context.Context, what map[string]any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("encode the tags: %w", err)
	}
	req, err := post(c.URL+"/zones/"+url.PathEscape(c.Zone)+"/purge_cache", string(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	resp, answer, err := do(ctx, c.Client, req, c.Token) //nolint:bodyclose // do has closed it
	if err != nil {
		return err
	}
	var a struct {
		Success bool `json:"success"`
	}
	if json.Unmarshal(answer, &a) != nil || !a.Success {
		return failure(resp, "no success: "+string(answer), c.Token)
	}
	return nil
}
