package doctor

import (
	"context"
	"errors"

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
			switch {
			case e.Status == 401 || e.Status == 403:
				hint = "check the token and what it may do: Fastly purge_select, Cloudflare Cache Purge; for Varnish the list of purgers in its VCL"
			case e.Status == 404:
				hint = "check the id of the service or zone"
			case e.Status == 429:
				hint = "write a lower rate"
			}
		}
		p.add(Serious, check, err.Error(), "purges wait until it takes them; pages there stay as they are", hint)
	}
}
