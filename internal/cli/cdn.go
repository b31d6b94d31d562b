package cli

import (
	"cmp"
	"fmt"
	"net/http"

	"golang.org/x/time/rate"

	"github.com/icache-go/icache-agent/internal/cdn"
	"github.com/icache-go/icache-agent/internal/config"
)

// openSinks returns the CDNs of the config. It connects to none.
func openSinks(cfg *config.Config) ([]cdn.Sink, error) {
	if err := cfg.RequireCDN(); err != nil {
		return nil, err
	}
	var sinks []cdn.Sink
	for i := range cfg.CDN {
		d := &cfg.CDN[i]
		cache, err := openCDN(d, cdn.NewClient(d.Timeout))
		if err != nil {
			return nil, err
		}
		limit, burst := d.Rate.PerSecond()
		sinks = append(sinks, cdn.Sink{Name: d.Name, Cache: cache, Rate: rate.Limit(limit), Burst: burst, RepeatAfter: d.RepeatAfter})
	}
	return sinks, nil
}

func closeSinks(sinks []cdn.Sink) {
	for _, s := range sinks {
		s.Cache.Close()
	}
}

func openCDN(d *config.CDN, client *http.Client) (cdn.Cache, error) {
	url := string(d.URL)
	switch d.Type {
	case "fastly":
		return &cdn.Fastly{Client: client, URL: cmp.Or(url, cdn.FastlyURL), Service: d.Service, Token: d.Token(), Soft: d.Soft}, nil
	case "cloudflare":
		return &cdn.Cloudflare{Client: client, URL: cmp.Or(url, cdn.CloudflareURL), Zone: d.Zone, Token: d.Token()}, nil
	case "varnish":
		return &cdn.Varnish{Client: client, URL: url, Soft: d.Soft}, nil
	}
	return nil, fmt.Errorf("cdn %s has type %q, which this program does not know", d.Name, d.Type)
}
