// Package tmpl caches pieces of pages: the template tag {% icache %} of the
// Python original, at home in Go.
//
//	{{icache "movies-personal-rating" "movies" (printf "user:%d" .User.ID)}} … expensive … {{endicache}}
//
// The tag lives in two packages that take the place of the standard library's
// in an import, [github.com/icache-go/icache-agent/tmpl/html/template] and
// [github.com/icache-go/icache-agent/tmpl/text/template]. The documentation of
// the first says what the tag does, what it guarantees and what to take care of.
//
// This package has what they share and what other engines need:
//
//   - [Write] caches what anything writes to an io.Writer;
//   - [Funcs] is the tag as a function, for programs that keep the standard
//     library's templates;
//   - [WithObserver] tells what became of each fragment of a page;
//   - [Begin] is for authors of adapters.
//
// Adapters for other engines are modules of their own below this package, so
// that their dependencies are nobody else's.
//
// Fragments nest across all of them: the outer one depends on the tokens of the
// inner ones by itself, as long as the context is passed on. What is inside a
// fragment that has to be rendered is read together, as far as it was there the
// last time: 500 cached rows in a list cost one round trip. The template
// engines do the same for a page; give others [icache.ReadAhead].
//
// # Guarantees
//
// A fragment is served only while none of its tokens has been incremented since
// before it was rendered; see [icache.Fetch] for what that means in detail. It is
// found again only under the same name, the same arguments in the same order,
// and the same digest. What fails is not cached and not written. If
// Redis fails, everything is rendered as if there were no cache. All functions
// are safe for concurrent use.
//
// The version of a fragment is read when it begins. Data that were read before
// are not covered by it: read them inside. A fragment inside another, or on a
// page, may have been read with the first beside it: it is as fresh as what is around it.
package tmpl
