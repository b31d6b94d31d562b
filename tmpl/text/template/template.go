package template

import (
	"context"
	"fmt"
	"io"
	"text/template"
	"text/template/parse"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl/internal/engine"
)

// Template is a set of associated text templates and the name of one of them,
// like its namesake in text/template. It is safe for concurrent use.
type Template struct {
	set         *engine.Set[*template.Template]
	name        string
	left, right string
}

var flavour = engine.Flavour[*template.Template]{
	Name:   "text",
	New:    template.New,
	Reword: func(err error) error { return err },
}

// New returns an empty template with the given name.
func New(name string) *Template {
	return &Template{set: engine.NewSet(flavour, name), name: name}
}

// Must panics if err is not nil, and returns t.
func Must(t *Template, err error) *Template {
	if err != nil {
		panic(err)
	}
	return t
}

// Cache makes c the cache of the blocks in t and all templates associated with
// it, for executions that begin from now on. Without one, or with nil, blocks
// are rendered every time.
func (t *Template) Cache(c *icache.Cache) *Template {
	t.set.SetCache(c)
	return t
}

// Name returns the name of the template.
func (t *Template) Name() string { return t.name }

// New returns an empty template associated with t and with the same delimiters.
func (t *Template) New(name string) *Template {
	return &Template{set: t.set, name: name, left: t.left, right: t.right}
}

// Clone returns a copy of t and all templates associated with it, and with
// the same cache.
func (t *Template) Clone() (*Template, error) {
	c := *t
	c.set = t.set.Clone()
	return &c, nil
}

// Delims sets the action delimiters of the templates parsed next. An empty one
// stands for the default, {{ or }}.
func (t *Template) Delims(left, right string) *Template {
	t.left, t.right = left, right
	return t
}

// Funcs adds functions for the templates parsed next. It panics if one cannot
// be called from a template or is named icache, endicache, vary or
// icachectx. What a
// function does is not part of a block's digest; see the package comment.
func (t *Template) Funcs(funcs FuncMap) *Template {
	t.set.Funcs(funcs)
	return t
}

// Option sets options, such as "missingkey=error". It panics on an unknown one.
func (t *Template) Option(opt ...string) *Template {
	t.set.Option(opt...)
	return t
}

// Lookup returns the template with the given name associated with t, or nil.
func (t *Template) Lookup(name string) *Template {
	if !t.set.Defined(name) {
		return nil
	}
	return t.New(name)
}

// Templates returns the templates associated with t, itself included if it is
// defined, by name.
func (t *Template) Templates() []*Template {
	names := t.set.Names()
	list := make([]*Template, len(names))
	for i, name := range names {
		list[i] = t.New(name)
	}
	return list
}

// DefinedTemplates lists the templates for an error message; "" if there are none.
func (t *Template) DefinedTemplates() string { return t.set.DefinedTemplates() }

// AddParseTree adds a copy of a tree under the given name. The tree has been
// parsed without the tag.
func (t *Template) AddParseTree(name string, tree *parse.Tree) (*Template, error) {
	t.set.AddParseTree(name, tree)
	return t.New(name), nil
}

// Parse parses text as the body of t, with what it defines. Mistakes in the use
// of the tag are errors here, with file, line and column.
func (t *Template) Parse(text string) (*Template, error) {
	if err := t.set.Parse(t.name, text, t.left, t.right); err != nil {
		return nil, err
	}
	return t, nil
}

// Execute is ExecuteContext without a context.
func (t *Template) Execute(w io.Writer, data any) error {
	return t.ExecuteContext(context.Background(), w, data)
}

// ExecuteTemplate is ExecuteTemplateContext without a context.
func (t *Template) ExecuteTemplate(w io.Writer, name string, data any) error {
	return t.ExecuteTemplateContext(context.Background(), w, name, data)
}

// ExecuteContext executes t with data and writes the output to w. If Redis
// fails, blocks are rendered as if there were no cache. If a block fails, nothing of
// it is written or cached, and the output ends before it.
//
// Blocks take from ctx their deadline, [icache.Bypass], [icache.Pin] and
// [tmpl.WithObserver], and report their tokens to what collects them.
func (t *Template) ExecuteContext(ctx context.Context, w io.Writer, data any) error {
	if !t.set.Defined(t.name) {
		return fmt.Errorf("template: %s: %q is an incomplete or empty template", t.name, t.name)
	}
	return t.set.Execute(ctx, w, t.name, data)
}

// ExecuteTemplateContext is ExecuteContext of the template with the given name.
func (t *Template) ExecuteTemplateContext(ctx context.Context, w io.Writer, name string, data any) error {
	if !t.set.Defined(name) {
		return fmt.Errorf("template: no template %q associated with template %q", name, t.name)
	}
	return t.set.Execute(ctx, w, name, data)
}
