package tmpl

import (
	"context"
	"fmt"
	htmltemplate "html/template"
	"io"
	texttemplate "text/template"
	"text/template/parse"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl/internal/digest"
)

// Funcs is the tag as a plain function, for programs that have to keep
// html/template or text/template and their own calls of Execute:
//
//	{{cached "row" . "movie" .ID}}
//
// is {{template "row" .}} with a cache: "row" names the template, the fragment
// and a token, the dot becomes the template's, and the other arguments are as
// in {{icache}}, with (vary …) for those that are no tokens. A
// [context.Context] among them is taken for the context:
//
//	{{cached "row" . $.Ctx "movie" .ID}}
//
// Compared to the block, the template sees no variables from outside,
// html/template always renders it as HTML text before it escapes that for the
// context of the call, and a template that is cached inside another does not
// report its tokens to it: the outer call has to name them too.
type Funcs struct {
	cache   *icache.Cache
	execute func(w io.Writer, name string, data any) error
	digests map[string]string
	html    bool
}

// NewFuncs returns Funcs on c. Without a cache, or with nil, templates are
// rendered every time.
func NewFuncs(c *icache.Cache) *Funcs { return &Funcs{cache: c} }

// Map returns the functions cached and vary for Template.Funcs.
func (f *Funcs) Map() map[string]any {
	return map[string]any{"cached": f.cached, "vary": Vary}
}

// Bind names the templates that cached can call: an html/template or
// text/template that has been parsed, and not been executed. Call it once.
func (f *Funcs) Bind(t interface {
	ExecuteTemplate(w io.Writer, name string, data any) error
}) error {
	trees := make(map[string]*parse.Tree)
	salt := "text funcs"
	switch t := t.(type) {
	case *htmltemplate.Template:
		salt = "html funcs"
		f.html = true
		for _, t := range t.Templates() {
			if t.Tree != nil {
				trees[t.Name()] = t.Tree
			}
		}
	case *texttemplate.Template:
		for _, t := range t.Templates() {
			if t.Tree != nil {
				trees[t.Name()] = t.Tree
			}
		}
	default:
		return fmt.Errorf("tmpl: Bind needs an *html/template.Template or a *text/template.Template, not a %T", t)
	}
	f.execute = t.ExecuteTemplate
	f.digests = make(map[string]string, len(trees))
	set := digest.New(salt, trees)
	for name, tree := range trees {
		f.digests[name] = set.Of(tree.Root)
	}
	return nil
}

func (f *Funcs) cached(name string, dot any, args ...any) (any, error) {
	if f.execute == nil {
		return nil, fmt.Errorf("template %q: call Bind on the tmpl.Funcs after parsing", name)
	}
	sum, ok := f.digests[name]
	if !ok {
		return nil, fmt.Errorf("no template %q was there when Bind was called", name)
	}
	ctx := context.Background()
	tokens := make([]any, 0, len(args))
	for _, arg := range args {
		if c, ok := arg.(context.Context); ok {
			ctx = c
			continue
		}
		tokens = append(tokens, arg)
	}
	out := getBuffer()
	defer putBuffer(out)
	err := WriteFragment(ctx, out, f.cache, Fragment{Name: name, Args: tokens, Digest: sum}, func(_ context.Context, w io.Writer) error {
		return f.execute(w, name, dot)
	})
	if err != nil {
		return nil, err
	}
	if f.html {
		return htmltemplate.HTML(out.String()), nil
	}
	return out.String(), nil
}
