package httpcache

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl"
)

// Config says what to cache. Fragment is required.
type Config struct {
	// Cache holds the validators, and the responses if Store is set. With nil
	// every request goes to the handler.
	Cache *icache.Cache
	// Fragment names the response to a request and its tokens. False lets
	// the request through.
	Fragment func(r *http.Request) (tmpl.Fragment, bool)
	// Store keeps whole responses. Default is to keep their headers only.
	Store bool
	// Version stands for the code of the handler, such as a build number.
	// Another version has other ETags and entries.
	Version string
	// Vary names the request headers that responses depend on. They are part
	// of the key and added to the header Vary.
	Vary []string
	// IgnoreURL leaves path and query out of the key, for fragments that name
	// all that matters in them.
	IgnoreURL bool
	// MaxBytes is the size from which a response is passed on instead of
	// being kept. Default is 1 MiB.
	MaxBytes int
	// Tags adds the tokens of a response to it, for CDNs.
	Tags []TagStyle
}

// Middleware caches the responses of handlers. It is safe for concurrent use.
type Middleware struct{ cfg Config }

// New checks the config.
func New(cfg Config) (*Middleware, error) {
	if cfg.Fragment == nil {
		return nil, errors.New("httpcache: Config.Fragment is nil")
	}
	if cfg.MaxBytes < 0 {
		return nil, errors.New("httpcache: Config.MaxBytes is negative")
	}
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 1<<20)
	cfg.Vary = slices.Clone(cfg.Vary)
	for i, name := range cfg.Vary {
		cfg.Vary[i] = http.CanonicalHeaderKey(name)
	}
	slices.Sort(cfg.Vary)
	return &Middleware{cfg}, nil
}

// Handler returns h behind the cache.
func (m *Middleware) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Add("Cache-Status", "icache; fwd=method")
			h.ServeHTTP(w, r)
			return
		}
		f, ok := m.cfg.Fragment(r)
		if !ok {
			w.Header().Add("Cache-Status", "icache; fwd=bypass")
			h.ServeHTTP(w, r)
			return
		}
		m.serve(w, r, h, f)
	})
}

func (m *Middleware) serve(w http.ResponseWriter, r *http.Request, h http.Handler, f tmpl.Fragment) {
	f.Args = append(slices.Clone(f.Args), tmpl.Vary(m.identity(r)...))
	id, err := f.ID()
	if err != nil {
		// An argument may come from the request: that must not be an error
		// where the handler would answer.
		w.Header().Add("Cache-Status", "icache; fwd=bypass; detail=argument")
		h.ServeHTTP(w, r)
		return
	}
	b, err := tmpl.Begin(r.Context(), m.cfg.Cache, f)
	if err != nil {
		// The request has ended, perhaps while it waited for its turn.
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	defer b.Abort(nil) // a panic of the handler; otherwise it does nothing
	x := exchange{m: m, w: w, r: r, h: h, id: id, block: b}
	data, ok := b.Hit()
	if !ok {
		x.miss()
		return
	}
	resp, err := unmarshal(data)
	if err != nil { // nothing else should write under these keys
		h.ServeHTTP(w, r)
		return
	}
	x.hit(resp)
}

// identity is what tells responses apart besides the fragment.
func (m *Middleware) identity(r *http.Request) []any {
	id := []any{"httpcache", m.cfg.Version, m.cfg.Store}
	if !m.cfg.IgnoreURL {
		id = append(id, r.Host, r.URL.EscapedPath(), r.URL.RawQuery)
	}
	for _, name := range m.cfg.Vary {
		id = append(id, name, strings.Join(r.Header.Values(name), ", "))
	}
	return id
}

// exchange is one request and its answer.
type exchange struct {
	m     *Middleware
	w     http.ResponseWriter
	r     *http.Request
	h     http.Handler
	id    string
	block *tmpl.Block
}

// hit answers with what is known about the current response.
func (x *exchange) hit(resp *response) {
	if x.m.cfg.Store || x.current(x.etag()) {
		x.answer(resp, "icache; hit")
		return
	}
	rec := newRecorder(x.w, x.m.cfg.MaxBytes)
	rec.pass = func() { x.m.unpurgeable(rec.sent) }
	x.h.ServeHTTP(rec, plain(x.r))
	fresh := rec.response()
	if fresh == nil {
		return
	}
	if !x.m.keeps(x.r, fresh) {
		x.m.unpurgeable(fresh.header)
		fresh.send(x.w)
		return
	}
	// The version was current before the handler began. If it is not any more
	// the client will ask once more than necessary.
	x.answer(fresh, "icache; fwd=request")
}

// miss runs the handler and keeps what it answers.
func (x *exchange) miss() {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(x.block.Context()))
	defer cancel(context.Canceled)
	shared := context.AfterFunc(x.block.Context(), func() { cancel(context.Cause(x.block.Context())) })
	rec := newRecorder(x.w, x.m.cfg.MaxBytes)
	rec.pass = func() {
		// Whoever waits for the response need not until the handler ends,
		// which may be never, and it goes on for this client alone.
		if shared() {
			context.AfterFunc(x.r.Context(), func() { cancel(context.Cause(x.r.Context())) })
		}
		icache.NoStore(ctx)
		x.block.Commit(nil)
		x.w.Header().Add("Cache-Status", "icache; fwd=miss")
		x.m.unpurgeable(rec.sent)
	}
	x.h.ServeHTTP(rec, plain(x.r).WithContext(ctx))
	resp := rec.response()
	if resp == nil {
		return
	}
	if !x.m.keeps(x.r, resp) {
		icache.NoStore(ctx)
		x.block.Commit(nil)
		x.m.unpurgeable(resp.header)
		resp.header.Add("Cache-Status", "icache; fwd=miss")
		resp.send(x.w)
		return
	}
	x.block.Commit(resp.marshal(x.m.cfg.Store))
	if x.block.Event().Outcome != icache.Miss {
		// It could not be stored: nobody knows for how long it is current.
		x.m.unpurgeable(resp.header)
		resp.header.Add("Cache-Status", "icache; fwd=miss")
		resp.send(x.w)
		return
	}
	x.answer(resp, "icache; fwd=miss; stored")
}

func (x *exchange) etag() string { return entityTag(x.id, x.block.Event().Version) }

// current reports whether the client holds what has the ETag. If it also sends
// If-Match, that comes first.
func (x *exchange) current(etag string) bool {
	return x.r.Header.Get("If-Match") == "" && noneMatch(x.r, etag)
}

// answer sends a response of a known version, or 304.
func (x *exchange) answer(resp *response, status string) {
	etag := x.etag()
	x.m.setHeaders(resp.header, x.block.Event().Tokens, etag)
	resp.header.Add("Cache-Status", status)
	if x.current(etag) {
		notModified(x.w, resp.header)
		return
	}
	resp.serve(x.w, x.r)
}

// plain returns the request without what asks for less than the whole
// response, and as a GET, so that what is kept is complete.
func plain(r *http.Request) *http.Request {
	c := r.Clone(r.Context())
	c.Method = http.MethodGet
	for _, name := range []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		c.Header.Del(name)
	}
	return c
}

// keeps reports whether a response may be kept for others.
func (m *Middleware) keeps(r *http.Request, resp *response) bool {
	h := resp.header
	if resp.status != http.StatusOK || h.Get("Set-Cookie") != "" || h.Get("Content-Range") != "" || resp.trailers() {
		return false
	}
	// RFC 9111 §3.5.
	allowed := r.Header.Get("Authorization") == "" || slices.Contains(m.cfg.Vary, "Authorization")
	for _, directive := range splitList(h.Values("Cache-Control")) {
		name, _, _ := strings.Cut(directive, "=")
		switch strings.ToLower(name) {
		case "no-store":
			return false
		case "public", "s-maxage", "must-revalidate":
			allowed = true
		}
	}
	if !allowed {
		return false
	}
	for _, name := range splitList(h.Values("Vary")) {
		if !slices.Contains(m.cfg.Vary, http.CanonicalHeaderKey(name)) {
			return false
		}
	}
	return true
}

func (m *Middleware) setHeaders(h http.Header, tokens []string, etag string) {
	h.Set("Etag", etag)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private, no-cache")
	}
	if len(m.cfg.Vary) > 0 {
		h.Set("Vary", strings.Join(m.cfg.Vary, ", "))
	}
	for _, style := range m.cfg.Tags {
		style.Set(h, tokens)
	}
}

// unpurgeable has CDNs not keep a response that has no tags, whatever the
// handler says: they could not be told to drop it.
func (m *Middleware) unpurgeable(h http.Header) {
	if len(m.cfg.Tags) > 0 {
		noStore(h)
	}
}

// splitList splits header values at commas.
func splitList(values []string) []string {
	var list []string
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
	}
	return list
}
