package doctor

import (
	"context"
	"errors"
	"net/http"

	"github.com/icache-go/icache-agent/internal/cdn"
)

// cdn has each CDN purge a key that no page has.
func (p *patient) cdn(ctx context.Context) {
	for _, s := range p.cfg.Sinks {
		check := "cdn " + s.Name
		err := cdn.Check(ctx, s)
		if err == nil {
			p.ok(check, "%s takes purges", s.Cache)
			continue
		}
		hint := "check that it is up and reachable from here, and what the proxy variables (HTTPS_PROXY, NO_PROXY) say"
		if e, answered := errors.AsType[*cdn.Error](err); answered {
			switch e.Status {
			case http.StatusUnauthorized, http.StatusForbidden:
				hint = "check the token and what it may do: Fastly purge_select, Cloudflare Cache Purge; for Varnish the list of purgers in its VCL"
			case http.StatusNotFound:
				hint = "check the id of the service or zone"
			case http.StatusTooManyRequests:
				hint = "write a lower rate"
			}
		}
		p.add(Serious, check, err.Error(), "purges wait until it takes them; pages there stay as they are", hint)
	}
}
