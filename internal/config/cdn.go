package config

import (
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/icache-go/icache-agent/mapping"
)

// CDN is an item of the list cdn: where pages are purged whose tokens were bumped.
type CDN struct {
	Type        string        `koanf:"type" jsonschema:"required,enum=fastly,enum=cloudflare,enum=varnish" doc:"fastly (purges surrogate keys), cloudflare (purges cache tags) or varnish (purges keys of its module xkey, with the VCL in deploy/varnish.vcl)."`
	Name        string        `koanf:"name" doc:"Name in logs and metrics: letters, digits, _ and -. Default: the type. Each CDN needs one of its own."`
	Service     string        `koanf:"service" doc:"Fastly: id of the service."`
	Zone        string        `koanf:"zone" doc:"Cloudflare: id of the zone."`
	URL         URL           `koanf:"url" doc:"Varnish: where it listens, http://varnish:6081; list each Varnish. For the others, where the API is if not at the usual place."`
	TokenFile   string        `koanf:"token_file" doc:"File that holds the API token. Left out, the token is in the environment variable FASTLY_API_TOKEN or CLOUDFLARE_API_TOKEN. A relative path starts from the directory of this file."`
	Soft        bool          `koanf:"soft" doc:"Fastly and Varnish: mark pages as stale instead of removing them. They may still be served while a fresh one is fetched."`
	Rate        Rate          `koanf:"rate" doc:"Most requests, as 10/s, 300/min or 5000/h, each with up to 256 keys (Cloudflare: 100). Default: fastly 20/s, cloudflare 5/s, varnish 100/s."`
	RepeatAfter time.Duration `koanf:"repeat_after" doc:"Purge everything once more after this time, for pages that were rendered before a change and reach the CDN after the first purge. Default: 2s. 0s means never."`
	Timeout     time.Duration `koanf:"timeout" doc:"Longest time for a request. Default: 10s."`

	token string
}

// Token returns the secret of the API, "" if there is none.
func (c *CDN) Token() string { return c.token }

// Rate is how often something may be done: 10/s, 300/min, 5000/h.
type Rate string

var rateText = regexp.MustCompile(`^([0-9]{1,9})/(s|min|h)$`)

// PerSecond returns the rate, and the number that was written: so many may be
// done at once. Both are zero for what is no rate.
func (r Rate) PerSecond() (limit float64, burst int) {
	m := rateText.FindStringSubmatch(string(r))
	if m == nil {
		return 0, 0
	}
	burst, _ = strconv.Atoi(m[1]) // it is a number
	return float64(burst) / map[string]float64{"s": 1, "min": 60, "h": 3600}[m[2]], burst
}

func parseRate(path, text string) (any, *mapping.Error) {
	if limit, _ := Rate(text).PerSecond(); limit <= 0 || math.IsInf(limit, 0) {
		return nil, &mapping.Error{Msg: fmt.Sprintf("%s is not a rate: %s", path, brief(text)), Hint: "write it as 10/s, 300/min or 5000/h"}
	}
	return Rate(text), nil
}

// cdnType is what a type of CDN needs and takes.
type cdnType struct {
	id       string // the key that says which, besides the API
	tokenEnv string
	rate     Rate
	takes    []string // of the keys that not all take
}

var cdnTypes = map[string]cdnType{
	"fastly":     {"service", "FASTLY_API_TOKEN", "20/s", []string{"service", "token_file", "soft"}},
	"cloudflare": {"zone", "CLOUDFLARE_API_TOKEN", "5/s", []string{"zone", "token_file"}},
	"varnish":    {"url", "", "100/s", []string{"soft"}},
}

const (
	defaultRepeatAfter = 2 * time.Second
	defaultTimeout     = 10 * time.Second
)

var cdnName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// checkCDNs completes the list and finds what is wrong with it.
func (c *Config) checkCDNs(l *layer) {
	names := make(map[string]string)
	for i := range c.CDN {
		d, path := &c.CDN[i], fmt.Sprintf("cdn[%d]", i)
		fail := func(key, msg, hint string) {
			pos, ok := l.at[path+"."+key]
			if !ok {
				pos = l.at[path]
			}
			l.fail(pos, msg, hint)
		}
		kind, known := cdnTypes[d.Type]
		if !known {
			problem := root.child("cdn").child("type").check(d.Type)
			fail("type", problem.Msg, problem.Hint)
			continue
		}
		if d.Name == "" {
			d.Name = d.Type
		}
		if !cdnName.MatchString(d.Name) {
			fail("name", fmt.Sprintf("%s.name %s is not made of letters, digits, _ and -", path, brief(d.Name)), "write edge, or cdn-1")
		} else if first, dup := names[d.Name]; dup {
			fail("name", fmt.Sprintf("%s has the name of %s: %s", path, first, brief(d.Name)), "give each a name")
		}
		names[d.Name] = path
		d.checkKeys(path, kind, fail)
		if d.Rate == "" {
			d.Rate = kind.rate
		}
		if _, written := l.at[path+".repeat_after"]; !written && d.RepeatAfter == 0 {
			d.RepeatAfter = defaultRepeatAfter
		}
		if _, written := l.at[path+".timeout"]; written && d.Timeout == 0 {
			fail("timeout", path+".timeout is 0, which waits for ever", "write 10s")
		} else if d.Timeout == 0 {
			d.Timeout = defaultTimeout
		}
	}
}

// checkKeys finds keys that are missing, and those that another type takes.
func (c *CDN) checkKeys(path string, kind cdnType, fail func(key, msg, hint string)) {
	given := map[string]bool{"service": c.Service != "", "zone": c.Zone != "", "token_file": c.TokenFile != "", "soft": c.Soft, "url": c.URL != ""}
	for _, key := range []string{"service", "zone", "token_file", "soft"} {
		if given[key] && !slices.Contains(kind.takes, key) {
			fail(key, fmt.Sprintf("%s.%s, and type %s has none", path, key, c.Type), "remove it")
		}
	}
	if !given[kind.id] {
		fail(kind.id, fmt.Sprintf("%s has no %s, and type %s needs it", path, kind.id, c.Type),
			map[string]string{"service": "write the id of the service", "zone": "write the id of the zone", "url": "write http://varnish:6081"}[kind.id])
	}
	if c.URL == "" {
		return
	}
	u, err := url.Parse(string(c.URL))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || misread(u) || u.RawQuery != "" {
		fail("url", path+".url is not the URL of a server", "write http://varnish:6081")
		return
	}
	c.URL = URL(strings.TrimSuffix(string(c.URL), "/"))
}

// readTokens reads the secrets of the APIs.
func (c *Config) readTokens(l *layer, environ []string) {
	for i := range c.CDN {
		d, path := &c.CDN[i], fmt.Sprintf("cdn[%d].token_file", i)
		if d.TokenFile != "" {
			d.token, _ = secretFile(l, path, "the token", d.TokenFile, c.file)
			continue
		}
		name := cdnTypes[d.Type].tokenEnv
		for _, e := range environ {
			if value, ok := strings.CutPrefix(e, name+"="); ok && name != "" {
				d.token = strings.TrimSpace(value)
			}
		}
	}
}

// RequireCDN returns an error if there is no token for the API of a CDN.
func (c *Config) RequireCDN() error {
	for i := range c.CDN {
		d := &c.CDN[i]
		if name := cdnTypes[d.Type].tokenEnv; name != "" && d.token == "" {
			return &Error{Problems: []*mapping.Error{{
				Msg: fmt.Sprintf("no API token for cdn %s", d.Name), Hint: "write token_file: with the path of a file that holds it, or set " + name,
			}}}
		}
	}
	return nil
}
