// Package icachegonja is the tag {% icache %} for gonja, the Jinja template
// engine in Go:
//
//	{% icache 'movies-personal-rating' 'movies' user.id %}
//	    … list of movies ordered by personal rating …
//	{% endicache %}
//
// The first argument names the fragment; it and the others are the tokens that
// the fragment depends on. Arguments are expressions, with filters, and may have
// commas between them. Those that follow the word vary tell entries apart and are no tokens:
//
//	{% icache 'movies' 'genre:' ~ genre.id vary lang page %}
//
// Register the tag once, before templates are parsed, and give each execution
// its context:
//
//	err := icachegonja.Register(gonja.DefaultEnvironment.ControlStructures, icachegonja.Config{Cache: cache, Templates: files})
//	err = page.Execute(w, icachegonja.Context(r.Context(), exec.NewContext(map[string]any{"user": user})))
//
// # Guarantees
//
// Blocks nest, also across {% include %}, macros and the other engines of package
// tmpl: the outer one depends on the tokens of the inner ones. A block that
// fails is not cached, and nothing of it is written. If Redis fails, the page is
// rendered as if there were no cache. Variables that a block sets with
// {% set %} end with it; do not set attributes of a namespace from outside,
// which a hit leaves as they are.
//
// The blocks of a page, and those inside a block that is rendered, are read
// together, as far as they were there the last time: a loop of cached rows takes one round
// trip. A page is as fresh as its first block.
//
// Entries are told apart by the arguments, the source of the block, the state
// of autoescape, and the text of all files in Config.Templates: without those, a
// deploy that changes an included template or a macro serves its old output until a token
// is incremented. Inside a tag, {% block %}, self and super are errors, since what they show
// depends on the template that extends this one; put the tag inside the block.
// gonja drops the errors of super() and self.name() and shows what was written
// before: do not cache an included page that uses them.
//
// Read the data inside the block, for example by calling a function that takes
// the variable icachectx; the version of a fragment is read when the block begins.
// See package tmpl for the rest.
package icachegonja
