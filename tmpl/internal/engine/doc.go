// Package engine puts {{icache}} … {{endicache}} into the template packages of
// the standard library. It is what html/template and text/template below tmpl
// share; their API is thin over it.
//
// The standard parser reads {{icache …}} and {{endicache}} as two plain calls of
// functions, so delimiters, trim markers, comments and positions are its own
// business. [parseSource] then folds each pair and the nodes between them into one
//
//	{{if icache ID …}} body {{if endicache}}{{end}}{{end}}
//
// in the parse tree. The body stays where it was: dot, variables and functions
// are the same as around it, and html/template escapes it in its context and
// refuses bodies that end in another one. Executing the tree through an
// [execution], which is both the writer and the state behind the two functions,
// captures the body on a miss and skips it on a hit.
//
// A function of a template knows nothing about the execution that calls it, so
// every concurrent execution has a copy of the template set of its own; copies
// are kept for the next one.
package engine
