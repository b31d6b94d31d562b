// Package template is html/template with a cache in it:
//
//	{{icache "movies-personal-rating" "movies" (printf "user:%d" .User.ID)}} … expensive … {{endicache}}
//
// It has the API of html/template, so moving over means importing this package
// instead and naming the cache:
//
//	pages := template.Must(template.ParseFS(files, "*.html")).Cache(cache)
//	err := pages.ExecuteTemplateContext(r.Context(), w, "movies.html", page)
//
// # The tag
//
// The first argument names the fragment. It and all others are the tokens that
// the fragment depends on: the output is cached until one of them is
// incremented. Each different list of arguments is an entry of its own. An
// argument that tells entries apart and is no token goes into (vary …):
//
//	{{icache "movies" "genre:7" (vary .Lang .Page)}}
//
// Tokens are the same everywhere: what a rule of the agent increments as
// "user:{id}" is (printf "user:%d" .User.ID) here. A bare .User.ID is the token
// "7", which is somebody's only if somebody increments it, and might be a movie.
//
// Arguments are strings, numbers, booleans, and values with MarshalText or String, in this order
// of preference; nil is an error.
//
// The block is part of the template around it. The dot, $, variables and
// functions are the same inside as outside, and html/template escapes the body
// where it stands: in text, attributes, URLs, scripts and styles. Data needs
// no special type.
//
// Blocks nest. A block depends on the tokens of the blocks inside it by itself,
// also when those are hits, and also across {{template}}. Go code that is called
// from a block joins in if it is given the block's context, which is the value
// of icachectx:
//
//	{{icache "top" "movies"}}{{range .TopMovies icachectx}} … {{end}}{{endicache}}
//
// What it reads with [icache.Fetch] under that context, or names with
// [icache.Depend], the block depends on.
//
// A block in a {{range}} does not cost a round trip for each row. The first that
// is executed brings along those that followed it the last times, see
// [icache.ReadAhead]: a list of 500 cached rows takes one round trip, and when one
// row has changed, that row alone is rendered:
//
//	{{icache "top" "movies"}}{{range .TopMovieIDs icachectx}}
//		{{icache "movie-row" (printf "movie:%d" .)}}{{with $.Movie icachectx .}} … {{end}}{{endicache}}
//	{{end}}{{endicache}}
//
// The row reads its movie itself. A movie that was read with the list may be
// older than the version of the row, and the row would be kept as it was.
//
// # Guarantees
//
//   - The output with the cache is, byte for byte, the output without it. What
//     would break this is refused: {{break}} and {{continue}} out of a block and
//     assignments to variables from outside when the template is parsed, a body that
//     ends in another context than it begins in when it is executed.
//   - Entries are told apart by the name, the arguments, the source of the
//     block and of all templates it calls, the options, and the context of
//     escaping. A deploy that changes a template never serves old markup, and
//     a block that is used as text and in a script is two entries.
//   - A page is as fresh as the beginning of its execution, or of what is around
//     it in its context (a fragment, [icache.ReadAhead]): an increment that was
//     acknowledged before is in all of it, also in blocks inside of others.
//   - A body that fails is not cached, and nothing of it is written.
//   - If Redis fails, the page is rendered as if there were no cache.
//   - Templates are safe for concurrent use.
//
// # What to take care of
//
// Everything that the body shows must be covered: by a token if it changes, by
// vary or a token if it differs between readers. What Go functions do is not seen: when
// one changes its output, change the name of the fragment or use
// [icache.WithEpoch] with a build number. Do not put nonces, CSRF tokens
// or other secrets of one reader into a block.
//
// Read the data inside the block. The version of a fragment is read when the block
// begins. Data that was read before that can be older than the version, and
// would be cached as current. So give the template something that reads when it is
// used, which also saves the query on a hit:
//
//	{{icache "top" "movies"}}{{range .TopMovies icachectx}} … {{end}}{{endicache}}
//
//	func (p *Page) TopMovies(ctx context.Context) ([]Movie, error) { return p.store.TopMovies(ctx) }
//
// Where that is not possible, leave the tag out and put an [icache.Fetch] around
// both, the reading and the execution. [icache.Pin] and Prefetch before the data
// are no help: what is computed gets the version of that moment.
//
// Executions that run at the same time work on copies of the template set,
// since html/template cannot tell a function which execution calls it. Copies
// are kept and reused.
package template
