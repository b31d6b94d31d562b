package engine

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"strings"
	"sync"
	"text/template/parse"
)

// splitContexts gives a block a digest of its own for each context in which
// html/template renders it. One source has different output as an element's
// text, in an attribute and in a script:
//
//	{{define "title"}}{{icache "title" .ID}}{{.Title}}{{endicache}}{{end}}
//	<h1>{{template "title" .}}</h1> <p title="{{template "title" .}}">
//
// For a template called in another context than text, html/template executes a
// copy under a name derived from the context, and it uses a template of that
// name if there is one already. So we let it escape the set once, see which
// derived names the calls got, and add those templates ourselves, with blocks
// numbered anew. A template that is added may call others, hence the loop.
func (c *compiled[T]) splitContexts() error {
	holders := c.holders()
	if !c.calledAny(holders) {
		return nil
	}
	if err := honoursDerived(); err != nil {
		return err
	}
	for {
		escaped, err := c.escapeAll(holders)
		if err != nil {
			return err
		}
		bases := make(map[string]string) // by derived name
		for name, tree := range c.trees {
			for derived, base := range renamedCalls(tree, escaped[name]) {
				if holders[base] && c.trees[derived] == nil {
					bases[derived] = base
				}
			}
		}
		if len(bases) == 0 {
			return nil
		}
		for derived, base := range bases {
			c.derive(derived, base)
		}
	}
}

// holders returns the templates with a block in them or in what they call.
func (c *compiled[T]) holders() map[string]bool {
	calls := make(map[string][]string, len(c.trees))
	direct := make(map[string]bool)
	for name, tree := range c.trees {
		templateNodes(tree.Root, func(n *parse.TemplateNode) { calls[name] = append(calls[name], n.Name) })
		blockIDs(tree.Root, func(*parse.NumberNode) { direct[name] = true })
	}
	holders := make(map[string]bool)
	for name := range c.trees {
		for _, callee := range append(reachable(calls[name], calls), name) {
			if direct[callee] {
				holders[name] = true
				break
			}
		}
	}
	return holders
}

func (c *compiled[T]) calledAny(holders map[string]bool) bool {
	called := false
	for _, tree := range c.trees {
		templateNodes(tree.Root, func(n *parse.TemplateNode) { called = called || holders[n.Name] })
	}
	return called
}

// escapeAll escapes a copy of the set as if each of the named templates were
// executed, and returns the escaped trees.
func (c *compiled[T]) escapeAll(names map[string]bool) (map[string]*parse.Tree, error) {
	set, trees, err := c.build(&execution{})
	if err != nil {
		return nil, err
	}
	drivers := make([]string, 0, len(names))
	for name := range names {
		// Calls the template without doing so: executing this escapes.
		driver := "icache: escape " + name
		tree, err := parse.Parse(driver, fmt.Sprintf("{{if false}}{{template %q}}{{end}}", name), "{{", "}}")
		if err != nil {
			return nil, fmt.Errorf("tmpl: %w", err)
		}
		if _, err := set.AddParseTree(driver, tree[driver]); err != nil {
			return nil, err
		}
		drivers = append(drivers, driver)
	}
	for _, driver := range drivers {
		// A template that cannot be escaped on its own is for others to call.
		// If they cannot either, an execution will tell.
		_ = set.ExecuteTemplate(io.Discard, driver, nil)
	}
	return trees, nil
}

// renamedCalls compares a tree to its escaped copy and returns what the calls
// that have got another name were called before.
func renamedCalls(tree, escaped *parse.Tree) map[string]string {
	var before, after []string
	templateNodes(tree.Root, func(n *parse.TemplateNode) { before = append(before, n.Name) })
	templateNodes(escaped.Root, func(n *parse.TemplateNode) { after = append(after, n.Name) })
	renamed := make(map[string]string)
	for i, name := range after {
		if name != before[i] {
			renamed[name] = before[i]
		}
	}
	return renamed
}

// derive adds a copy of a template with blocks of its own.
func (c *compiled[T]) derive(name, base string) {
	tree := c.trees[base].Copy()
	tree.Name = name
	blockIDs(tree.Root, func(id *parse.NumberNode) {
		info := c.blocks[id.Int64]
		info.digest += name[len(base):]
		setID(id, len(c.blocks))
		c.blocks = append(c.blocks, info)
	})
	c.trees[name] = tree
}

// honoursDerived checks, once, that html/template works as splitContexts relies
// on: that it uses a template that already has the derived name. If that
// changes, cached blocks cannot be told apart by context and are refused.
var honoursDerived = sync.OnceValue(func() error {
	parsed := func(text string) *parse.Tree {
		return htmltemplate.Must(htmltemplate.New("t").Parse(text)).Tree
	}
	build := func(own string) (*htmltemplate.Template, *parse.Tree) {
		set := htmltemplate.New("page")
		page := parsed(`<p title="{{template "x"}}">`)
		htmltemplate.Must(set.AddParseTree("page", page))
		htmltemplate.Must(set.AddParseTree("x", parsed("theirs")))
		if own != "" {
			htmltemplate.Must(set.AddParseTree(own, parsed("ours")))
		}
		return set, page
	}
	set, page := build("")
	err := set.ExecuteTemplate(io.Discard, "page", nil)
	var derived string
	templateNodes(page.Root, func(n *parse.TemplateNode) { derived = n.Name })
	set, _ = build(derived)
	var out strings.Builder
	if err = errors.Join(err, set.ExecuteTemplate(&out, "page", nil)); err != nil || out.String() != `<p title="ours">` {
		return errors.Join(errors.New("tmpl: this version of html/template cannot tell in which context it calls a template; "+
			"move {{icache}} blocks out of templates that others call"), err)
	}
	return nil
})
