package template

import "html/template"

// What html/template has besides templates, so that this package can take its
// place in an import.
type (
	CSS       = template.CSS
	Error     = template.Error
	ErrorCode = template.ErrorCode
	FuncMap   = template.FuncMap
	HTML      = template.HTML
	HTMLAttr  = template.HTMLAttr
	JS        = template.JS
	JSStr     = template.JSStr
	Srcset    = template.Srcset
	URL       = template.URL
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
