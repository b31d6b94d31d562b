package template_test

import (
	htmltemplate "html/template"
	"testing"

	"github.com/icache-go/icache-agent/tmpl/html/template"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

func TestLikeStandard(t *testing.T) {
	t.Parallel()
	tmpltest.Parity(t,
		tmpltest.Package[*htmltemplate.Template]{
			New: htmltemplate.New, Must: htmltemplate.Must,
			ParseFS: htmltemplate.ParseFS, ParseFiles: htmltemplate.ParseFiles, ParseGlob: htmltemplate.ParseGlob,
		},
		tmpltest.Package[*template.Template]{
			New: template.New, Must: template.Must,
			ParseFS: template.ParseFS, ParseFiles: template.ParseFiles, ParseGlob: template.ParseGlob,
		})
}
