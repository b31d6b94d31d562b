package httpcache

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
)

// response is an answer of a handler, whole.
type response struct {
	status int
	header http.Header
	body   []byte
}

// stored is the form in the cache: a line of JSON, and the body if it is kept.
type stored struct {
	Header http.Header `json:"header"`
}

func (resp *response) marshal(withBody bool) []byte {
	// A map of strings cannot fail to be encoded.
	line, _ := json.Marshal(stored{endToEnd(resp.header)})
	line = append(line, '\n')
	if withBody {
		line = append(line, resp.body...)
	}
	return line
}

func unmarshal(data []byte) (*response, error) {
	line, body, _ := bytes.Cut(data, []byte("\n"))
	var s stored
	if err := json.Unmarshal(line, &s); err != nil {
		return nil, err
	}
	if s.Header == nil {
		s.Header = make(http.Header)
	}
	return &response{status: http.StatusOK, header: s.Header, body: body}, nil
}

// send writes a response that is not to be cached.
func (resp *response) send(w http.ResponseWriter) {
	copyHeader(w.Header(), resp.header)
	w.WriteHeader(resp.status)
	_, _ = w.Write(resp.body) // the client has gone
}

// serve writes a response that has an ETag, as far as the client asks for it.
func (resp *response) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	copyHeader(h, resp.header)
	if h.Get("Content-Encoding") != "" && h.Get("Content-Type") == "" {
		h["Content-Type"] = nil // not to be guessed from encoded bytes
	}
	// Ranges are defined for GET only, and units that are not known have no effect.
	if r.Method == http.MethodHead || !strings.HasPrefix(r.Header.Get("Range"), "bytes=") {
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	modified, _ := http.ParseTime(h.Get("Last-Modified")) // else the zero time, for unknown
	// It sees to HEAD, Range, If-Range, If-Match and the conditions on times.
	http.ServeContent(w, r, "", modified, bytes.NewReader(resp.body))
}

// trailers reports whether the handler has set headers that follow the body.
func (resp *response) trailers() bool {
	for name := range resp.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// endToEnd returns the headers without those that concern one connection, which
// must not be kept: RFC 9111 §3.1.
func endToEnd(h http.Header) http.Header {
	kept := maps.Clone(h)
	for _, name := range splitList(h.Values("Connection")) {
		kept.Del(name)
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		kept.Del(name)
	}
	return kept
}

// copyHeader sets the headers of a response in place of those that are set
// already. Lists, to which what is around this cache may have added before,
// are added to.
func copyHeader(dst, src http.Header) {
	for name, values := range src {
		switch name {
		case "Link", "Server-Timing", "Set-Cookie", "Vary":
			dst[name] = append(dst[name], values...)
		default:
			dst[name] = values
		}
	}
}
