package template_test

import (
	"testing"
	texttemplate "text/template"

	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	"github.com/icache-go/icache-agent/tmpl/text/template"
)

func TestLikeStandard(t *testing.T) {
	t.Parallel()
	tmpltest.Parity(t,
		tmpltest.Package[*texttemplate.Template]{
			New: texttemplate.New, Must: texttemplate.Must,
			ParseFS: texttemplate.ParseFS, ParseFiles: texttemplate.ParseFiles, ParseGlob: texttemplate.ParseGlob,
		},
		tmpltest.Package[*template.Template]{
			New: template.New, Must: template.Must,
			ParseFS: template.ParseFS, ParseFiles: template.ParseFiles, ParseGlob: template.ParseGlob,
		})
}
