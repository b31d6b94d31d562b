package main

import (
	"io"

	"github.com/labstack/echo/v4"

	"github.com/icache-go/icache-agent/tmpl/html/template"
)

// Renderer is Echo's Renderer with cached blocks. Blocks get the context of the
// request: its deadline, and what icache.Bypass and tmpl.WithObserver put there.
//
// Echo sends nothing of a page that fails, and gives the error to its
// HTTPErrorHandler.
type Renderer struct{ Pages *template.Template }

// Render is called by c.Render.
func (r Renderer) Render(w io.Writer, name string, data any, c echo.Context) error {
	return r.Pages.ExecuteTemplateContext(c.Request().Context(), w, name, data)
}
