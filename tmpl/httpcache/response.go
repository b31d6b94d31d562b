package httpcache

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
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
	line, _ := json.Marshal(stored{resp.header})
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

func copyHeader(dst, src http.Header) { maps.Copy(dst, src) }

// recorder keeps what a handler writes. From the limit on, and when the handler flushes, it
// passes everything on instead.
type recorder struct {
	w      http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
	limit  int
	pass   func() // called before passing on
	passed bool
}

func newRecorder(w http.ResponseWriter, limit int) *recorder {
	// The handler does not see headers that are set already: those of this
	// request, such as its number, must not be kept for others.
	return &recorder{w: w, header: make(http.Header), limit: limit, pass: func() {}}
}

// Header implements http.ResponseWriter.
func (rec *recorder) Header() http.Header {
	if rec.passed {
		return rec.w.Header()
	}
	return rec.header
}

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	switch {
	case rec.passed:
		rec.w.WriteHeader(status)
	case status < 200: // 103 Early Hints is of no use to caches
		rec.w.WriteHeader(status)
	case rec.status == 0:
		rec.status = status
		rec.header = rec.header.Clone() // later changes have no effect
	}
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.passed {
		return rec.w.Write(p)
	}
	rec.WriteHeader(http.StatusOK)
	if rec.body.Len()+len(p) > rec.limit {
		if err := rec.passOn(); err != nil {
			return 0, err
		}
		return rec.w.Write(p)
	}
	return rec.body.Write(p)
}

// Flush implements http.Flusher, for handlers that stream.
func (rec *recorder) Flush() { _ = rec.FlushError() }

// FlushError is Flush for http.ResponseController.
func (rec *recorder) FlushError() error {
	if !rec.passed {
		rec.WriteHeader(http.StatusOK)
		if err := rec.passOn(); err != nil {
			return err
		}
	}
	return http.NewResponseController(rec.w).Flush()
}

func (rec *recorder) passOn() error {
	rec.pass()
	rec.passed = true
	copyHeader(rec.w.Header(), rec.header)
	rec.w.WriteHeader(rec.status)
	_, err := rec.w.Write(rec.body.Bytes())
	return err
}

func (rec *recorder) response() *response {
	rec.WriteHeader(http.StatusOK)
	rec.header.Del("Content-Length") // told again when it is served
	return &response{status: rec.status, header: rec.header, body: rec.body.Bytes()}
}
