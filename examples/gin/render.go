package main

import (
	"bytes"
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/gin-gonic/gin/render"

	"github.com/icache-go/icache-agent/tmpl/html/template"
)

// HTML is Gin's HTMLRender with cached blocks. It takes the place of what
// LoadHTMLGlob and the like set.
type HTML struct{ Pages *template.Template }

// Instance is what c.HTML calls. Gin does not tell it of the request, so blocks
// are rendered without the request's context; [HTML.Page] gives it to them.
func (h HTML) Instance(name string, data any) render.Render {
	return &page{context.Background(), h.Pages, name, data}
}

// Page is c.HTML with the context of the request: its deadline, and what
// icache.Bypass and tmpl.WithObserver put there.
func (h HTML) Page(c *gin.Context, code int, name string, data any) {
	c.Render(code, &page{c.Request.Context(), h.Pages, name, data})
}

// page is one answer.
type page struct {
	ctx   context.Context //nolint:containedctx // Gin has no other way
	pages *template.Template
	name  string
	data  any
}

// Render writes the page, or nothing if it fails: Gin then has the error in
// c.Errors, and a middleware can still answer.
func (p *page) Render(w http.ResponseWriter) error {
	var out bytes.Buffer
	if err := p.pages.ExecuteTemplateContext(p.ctx, &out, p.name, p.data); err != nil {
		return err
	}
	p.WriteContentType(w)
	_, err := w.Write(out.Bytes())
	return err
}

func (p *page) WriteContentType(w http.ResponseWriter) {
	if h := w.Header(); h.Get("Content-Type") == "" {
		h.Set("Content-Type", "text/html; charset=utf-8")
	}
}
