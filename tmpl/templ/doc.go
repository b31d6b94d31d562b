// Package icachetempl caches parts of templ components:
//
//	var fragments = icachetempl.New(icachetempl.Config{Cache: cache})
//
//	templ Page(user User) {
//		@fragments.Cached("movies-personal-rating", "movies", user.ID) {
//			for _, m := range user.Movies(ctx) {
//				<li>{ m.Title }</li>
//			}
//		}
//	}
//
// The first argument names the fragment; it and the others are the tokens that
// the fragment depends on. An argument that tells entries apart and is no token goes into
// tmpl.Vary:
//
//	@fragments.Cached("top", "movies", tmpl.Vary(lang)) { … }
//
// The children are rendered on a miss only. The variable ctx inside of them is the
// fragment's: what is fetched or declared under it, as by [icache.Depend], the
// fragment depends on.
//
// Fragments inside one that is rendered are read together, as far as they were
// there the last time: a list of cached rows takes one round trip. For the rows
// of a page without a fragment around them, give the page such a context:
//
//	err := page.Render(icache.ReadAhead(r.Context(), "movies"), w)
//
// # Guarantees
//
// Fragments nest, also across components and with the other engines of package
// tmpl: the outer one depends on the tokens of the inner ones. A fragment that
// fails is not cached, and nothing of it is written. If Redis fails, the page is
// rendered as if there were no cache. Entries are told apart by the arguments
// and by Config.Version, which by default is a hash of the running program: a
// deploy starts with new entries.
//
// What templ keeps track of while it renders stays right:
//
//   - templ.RenderFragments writes what it would write without the cache. A
//     cached block around the wanted fragment is rendered; one inside of it is
//     cached as ever.
//   - CSS, script templates and templ.OnceHandle are emitted once per page. A
//     block that emits one is therefore not cached, and what a page has emitted
//     before a block is part of the block's key. Emit them before cached blocks, for
//     example with templ.NewCSSMiddleware.
//   - A block whose output contains the page's CSP nonce is not cached.
//
// templ.Flush has no effect inside a block.
package icachetempl
