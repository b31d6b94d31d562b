package cdn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/icache-go/icache-agent/tmpl/httpcache"
)

// Varnish is one Varnish, purged by the keys of its module xkey. It needs the
// VCL in deploy/varnish.vcl, or one that does the same.
type Varnish struct {
	Client *http.Client
	URL    string // http://varnish:6081
	Soft   bool   // mark as stale, do not remove
}

// PurgedHeader is how the VCL says that it was the one to answer, and how many
// objects it has purged. Without the VCL a purge reaches the application, which
// may answer anything.
const PurgedHeader = "Xkey-Purged"

// Key implements [Cache].
func (v *Varnish) Key(token string) string { return httpcache.Varnish.Tag(token) }

// Limits implements [Cache]. Varnish takes no more than 8 KiB of a header by
// default (http_req_hdr_len), and a tag can be as long as a token.
func (v *Varnish) Limits() Limits { return Limits{Keys: 256, Bytes: 6 << 10} }

// String implements [Cache].
func (v *Varnish) String() string {
	u, err := url.Parse(v.URL)
	if err != nil {
		return "varnish"
	}
	return "varnish " + u.Scheme + "://" + u.Host
}

// Close implements [Cache].
func (v *Varnish) Close() { v.Client.CloseIdleConnections() }

// Purge implements [Cache].
func (v *Varnish) Purge(ctx context.Context, keys []string) error {
	req, err := http.NewRequest("PURGE", v.URL+"/", http.NoBody)
	if err != nil {
		return errors.New("the url is not valid")
	}
	name := "Xkey-Purge"
	if v.Soft {
		name = "Xkey-Softpurge"
	}
	req.Header.Set(name, strings.Join(keys, httpcache.Varnish.Separator))
	resp, _, err := do(ctx, v.Client, req, "") //nolint:bodyclose // do has closed it
	if err != nil {
		return err
	}
	if resp.Header.Get(PurgedHeader) == "" {
		return fmt.Errorf("the answer has no header %s: its VCL does not purge by keys (see deploy/varnish.vcl)", PurgedHeader)
	}
	return nil
}

// PurgeAll implements [Cache]: there is none.
func (v *Varnish) PurgeAll(context.Context) error { return errors.ErrUnsupported }
