package httpcache

import (
	"net/http"
	"strings"

	"github.com/icache-go/icache-agent/icache"
)

// TagStyle says how a CDN wants to be told the tokens that a response depends
// on, so that it can be purged by them.
type TagStyle struct {
	Header    string // name of the header
	Separator string // between tags
	MaxBytes  int    // of the whole header; 0 is no limit
	MaxTags   int    // 0 is no limit
	MaxTag    int    // bytes of a tag; 0 is no limit
	Forbidden string // characters that a tag cannot have, besides spaces and those of Separator
}

// The styles of some CDNs.
var (
	Fastly     = TagStyle{Header: "Surrogate-Key", Separator: " ", MaxBytes: 16 << 10, MaxTag: 1 << 10}
	Cloudflare = TagStyle{Header: "Cache-Tag", Separator: ",", MaxBytes: 16 << 10, MaxTag: 1 << 10}
	Akamai     = TagStyle{Header: "Edge-Cache-Tag", Separator: ",", MaxTags: 128, MaxTag: 128, Forbidden: `:*@(){}[]"<>?=/\;`}
	Varnish    = TagStyle{Header: "Xkey", Separator: " "}
)

// Tag is the tag of a token: the token itself if the style can write it, or
// else a hash of it, which whoever purges computes in the same way.
func (s TagStyle) Tag(token string) string {
	bad := func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(s.Separator, r) || strings.ContainsRune(s.Forbidden, r)
	}
	if s.MaxTag > 0 && len(token) > s.MaxTag || strings.ContainsFunc(token, bad) {
		return icache.HashToken(token)
	}
	return token
}

// Set writes the tags of the tokens to h. If they do not fit, a shared cache
// could not be told to drop the response, so it is told not to keep it.
func (s TagStyle) Set(h http.Header, tokens []string) {
	tags := make([]string, len(tokens))
	for i, token := range tokens {
		tags[i] = s.Tag(token)
	}
	value := strings.Join(tags, s.Separator)
	if s.MaxBytes > 0 && len(value) > s.MaxBytes || s.MaxTags > 0 && len(tags) > s.MaxTags {
		h.Del(s.Header)
		noStore(h)
		return
	}
	h.Set(s.Header, value)
}

// noStore tells shared caches that are CDNs, and those alone, not to keep a response.
func noStore(h http.Header) {
	h.Set("CDN-Cache-Control", "no-store")
	h.Set("Surrogate-Control", "no-store")
}
