package httpcache

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"net/http"
	"strings"

	"github.com/icache-go/icache-agent/icache"
)

// entityTag is a weak ETag of an entry at a version. It is a hash, since the
// version would tell when the data were last changed.
func entityTag(id string, v icache.Version) string {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(v)))
	h.Write([]byte(id))
	return `W/"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12]) + `"`
}

// noneMatch reports whether the client has said that it holds the entity: a
// comparison of If-None-Match by the weak function, RFC 9110 §8.8.3.2.
func noneMatch(r *http.Request, etag string) bool {
	opaque := strings.TrimPrefix(etag, "W/")
	for _, header := range r.Header.Values("If-None-Match") {
		for header = strings.TrimSpace(header); header != ""; header = strings.TrimLeft(header, " \t,") {
			if header[0] == '*' {
				return true
			}
			header = strings.TrimPrefix(header, "W/")
			if header == "" || header[0] != '"' {
				break // not a list of entity tags
			}
			end := strings.IndexByte(header[1:], '"')
			if end < 0 {
				break
			}
			if header[:end+2] == opaque {
				return true
			}
			header = header[end+2:]
		}
	}
	return false
}

// notModified answers 304 with the headers that RFC 9110 §15.4.5 asks for, and
// those that concern caches.
func notModified(w http.ResponseWriter, h http.Header) {
	h = maps.Clone(h)
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Last-Modified"} {
		delete(h, name)
	}
	copyHeader(w.Header(), h)
	w.WriteHeader(http.StatusNotModified)
}
