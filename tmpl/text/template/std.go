package template

import "text/template"

// What text/template has besides templates, so that this package can take its
// place in an import.
type (
	ExecError = template.ExecError
	FuncMap   = template.FuncMap
)

// HTMLEscape is [template.HTMLEscape], and so on.
var (
	HTMLEscape       = template.HTMLEscape
	HTMLEscapeString = template.HTMLEscapeString
	HTMLEscaper      = template.HTMLEscaper
	IsTrue           = template.IsTrue
	JSEscape         = template.JSEscape
	JSEscapeString   = template.JSEscapeString
	JSEscaper        = template.JSEscaper
	URLQueryEscaper  = template.URLQueryEscaper
)
