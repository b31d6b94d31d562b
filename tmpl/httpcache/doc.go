// Package httpcache answers HTTP requests from tokens: a browser or a CDN that
// has the current version of a response is told so (304 Not Modified) after
// one round trip to Redis, without running the handler.
//
//	cached, err := httpcache.New(httpcache.Config{
//		Cache:   cache,
//		Version: build,
//		Fragment: func(r *http.Request) (tmpl.Fragment, bool) {
//			return tmpl.Fragment{Name: "movie-page", Args: []any{"movie:" + r.PathValue("id")}}, true
//		},
//	})
//	mux.Handle("GET /movies/{id}", cached.Handler(moviePage))
//
// The fragment names the response and the tokens that it depends on. The tokens of
// cached blocks that the handler renders under the request's context, and those
// of [icache.Depend], are added by themselves. With [Config.Store] the response is cached
// as well, and a request without validator does not run the handler either.
//
// # Guarantees
//
// A 304, or a stored response, is sent only while none of the tokens has been
// incremented since before the handler began that produced the response. ETags are weak: the
// same ETag means the same content, not the same bytes. They do not tell
// versions. A response is not cached if its status is not 200, if it sets a
// cookie, says no-store, varies by a header that is not in [Config.Vary], has
// trailers, or if the handler flushes, hijacks, fails by panicking or writes more
// than [Config.MaxBytes]; it is sent as it is. A request with Authorization is
// answered from the cache only if [Config.Vary] names that header or the response
// is public, s-maxage or must-revalidate (RFC 9111 §3.5). Private responses are
// kept: the fragment tells whose they are. If Redis fails, the handler answers
// every request.
//
// GET and HEAD are cached, other methods passed through. If-None-Match is compared
// weakly, and the other conditions and Range are applied to the whole response as
// RFC 9110 says, so the handler never sees them; an If-Match or If-Range with the
// ETag never holds, since it is weak. Cache-Control, if the handler does not set
// it, is "private, no-cache": kept, and asked about each time. Cache-Status (RFC
// 9211) tells what happened.
//
// # What to take care of
//
// All that tells responses apart must be in the fragment or in Config.Vary: the path and query as
// far as the handler looks at them, the user, the role, the language. What is missing is shown
// to everybody. The URL is added to the key unless [Config.IgnoreURL] is set.
package httpcache
