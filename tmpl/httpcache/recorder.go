package httpcache

import (
	"bufio"
	"bytes"
	"maps"
	"net"
	"net/http"
	"strings"
)

// recorder keeps what a handler writes. From the limit on, and when the handler
// flushes, announces trailers or takes over the connection, it passes everything
// on instead.
type recorder struct {
	w      http.ResponseWriter
	header http.Header
	sent   http.Header // header as of WriteHeader
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
	case status == http.StatusSwitchingProtocols:
		rec.status, rec.sent = status, rec.header
		_ = rec.passOn() // there is no body
	case status < 200: // such as 103 Early Hints, of no use to caches
		h := rec.w.Header()
		before := h.Clone()
		copyHeader(h, rec.header)
		rec.w.WriteHeader(status)
		clear(h)
		maps.Copy(h, before)
	case rec.status == 0:
		rec.status, rec.sent = status, rec.header.Clone() // later changes have no effect
		if len(rec.header["Trailer"]) > 0 {
			_ = rec.passOn() // there is no body yet
		}
	}
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.passed {
		return rec.w.Write(p)
	}
	if rec.WriteHeader(http.StatusOK); !rec.passed && rec.body.Len()+len(p) > rec.limit {
		if err := rec.passOn(); err != nil {
			return 0, err
		}
	}
	if rec.passed {
		return rec.w.Write(p)
	}
	return rec.body.Write(p)
}

// Flush implements http.Flusher, for handlers that stream.
func (rec *recorder) Flush() { _ = rec.FlushError() }

// FlushError is Flush for http.ResponseController.
func (rec *recorder) FlushError() error {
	if !rec.passed {
		if rec.WriteHeader(http.StatusOK); !rec.passed {
			if err := rec.passOn(); err != nil {
				return err
			}
		}
	}
	return http.NewResponseController(rec.w).Flush()
}

// Hijack implements http.Hijacker.
func (rec *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(rec.w).Hijack()
	if err == nil && !rec.passed {
		rec.sent = rec.header
		rec.pass()
		rec.passed = true
	}
	return conn, rw, err
}

// Unwrap is for the deadlines of http.ResponseController.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.w }

func (rec *recorder) passOn() error {
	rec.pass()
	rec.passed = true
	copyHeader(rec.w.Header(), rec.sent)
	rec.w.WriteHeader(rec.status)
	if rec.body.Len() == 0 {
		return nil
	}
	_, err := rec.w.Write(rec.body.Bytes())
	return err
}

// response is what the handler has written, or nil if it was passed on. Call it
// when the handler has returned.
func (rec *recorder) response() *response {
	if !rec.passed {
		rec.WriteHeader(http.StatusOK)
	}
	trailers := rec.sent
	if rec.passed {
		trailers = rec.w.Header()
	}
	for name, values := range rec.header {
		if _, ok := rec.sent[name]; !ok && (rec.passed || strings.HasPrefix(name, http.TrailerPrefix)) {
			trailers[name] = values
		}
	}
	if rec.passed {
		return nil
	}
	rec.sent.Del("Content-Length") // told again when it is served
	return &response{status: rec.status, header: rec.sent, body: rec.body.Bytes()}
}
