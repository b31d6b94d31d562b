// Package icachepongo2 is the tag {% icache %} for pongo2, the Django template
// engine in Go. Its syntax is that of the Python original:
//
//	{% load icache %}
//	{% icache 'movies-personal-rating' 'movies' user.id %}
//	    … list of movies ordered by personal rating …
//	{% endicache %}
//
// The first argument names the fragment; it and the others are the tokens that
// the fragment depends on. Arguments are expressions, with filters. Those that follow the
// word vary tell entries apart and are no tokens:
//
//	{% icache 'movies' genre.id|stringformat:'genre:%d' vary lang page %}
//
// Register the tag once, before templates are parsed, and give each execution
// its context:
//
//	err := icachepongo2.Register(icachepongo2.Config{Cache: cache, Templates: files})
//	err = page.ExecuteWriter(icachepongo2.Context(r.Context(), pongo2.Context{"user": user}), w)
//
// # Guarantees
//
// Blocks nest, also across {% include %} and with the other engines of package
// tmpl: the outer one depends on the tokens of the inner ones. A block that
// fails is not cached, and nothing of it is written. If Redis fails, the page is
// rendered as if there were no cache. Variables that a block sets with
// {% set %} end with it.
//
// The blocks of a page, and those inside a block that is rendered, are read
// together, as far as they were there the last time: a loop of cached rows takes one round
// trip. A page is as fresh as its first block.
//
// Entries are told apart by the arguments, the source of the block, the state
// of autoescape, and the text of all files in Config.Templates: without those, a
// deploy that changes an included template serves its old output until a token
// is incremented. A {% block %} inside is an error, since what it shows
// depends on the template that extends this one; put the tag inside the block.
//
// Read the data inside the block, for example by calling a function that takes
// the variable icachectx; the version of a fragment is read when the block begins.
// See package tmpl for the rest.
package icachepongo2
