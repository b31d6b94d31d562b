package engine

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template/parse"

	"github.com/icache-go/icache-agent/tmpl/internal/digest"
)

// splitContexts makes the context in which html/template renders a block part of
// its digest. One source has different output as an element's text, in an
// attribute and in a script:
//
//	{{define "title"}}{{icache "title" .ID}}{{.Title}}{{endicache}}{{end}}
//	<h1>{{template "title" .}}</h1> <p title="{{template "title" .}}">
//
// html/template names contexts when it escapes a call: for a template called in
// another context than text it executes a copy of it, and changes the name in
// the call to one derived from the context. So a copy of the set with a call of an
// empty template at the start of each block is escaped, and the names that
// these calls get are the contexts of the blocks.
//
// Where a template with blocks is itself called in another context, the
// copy that html/template would make is made here, with blocks numbered anew, and added to
// the set under the derived name: html/template uses a template of that name if
// there is one. That one may call others, so this goes on until no name is new.
//
// What cannot be escaped cannot be executed; blocks only reached from there are
// left without a digest and not cached.
func (c *compiled[T]) splitContexts() error {
	if len(c.blocks) == 0 {
		return nil
	}
	if err := honoursDerived(); err != nil {
		return err
	}
	entries := slices.Sorted(maps.Keys(c.holders()))
	for {
		trees, failed, err := c.escape(entries)
		if err != nil {
			return err
		}
		if failed != "" {
			entries = slices.DeleteFunc(entries, func(name string) bool { return name == failed })
			continue
		}
		if c.derive(trees) {
			continue
		}
		c.nameContexts(trees, entries)
		return nil
	}
}

// probePrefix begins the names of the templates that blocks are made to call.
const probePrefix = "icache: block "

// escape returns the trees of a copy of the set after executing each of the
// named templates has had them escaped, or the name of one that cannot be.
func (c *compiled[T]) escape(names []string) (trees map[string]*parse.Tree, failed string, err error) {
	set, trees, err := c.build(&execution{})
	if err != nil {
		return nil, "", err
	}
	add := func(name, text string) error {
		tree, err := parse.Parse(name, text, "{{", "}}")
		if err != nil {
			return fmt.Errorf("tmpl: %w", err)
		}
		_, err = set.AddParseTree(name, tree[name])
		return err
	}
	call, err := parse.Parse("t", `{{template "x"}}`, "{{", "}}")
	if err != nil {
		return nil, "", fmt.Errorf("tmpl: %w", err)
	}
	for _, tree := range trees {
		eachBlock(tree.Root, func(id *parse.NumberNode, body *parse.ListNode) {
			probe := call["t"].Root.Nodes[0].Copy().(*parse.TemplateNode)
			probe.Name = probePrefix + strconv.FormatInt(id.Int64, 10)
			body.Nodes = append([]parse.Node{probe}, body.Nodes...)
			err = errors.Join(err, add(probe.Name, ""))
		})
	}
	const driver = "icache: escape "
	for _, name := range names {
		// Calls the template without doing so: executing this escapes.
		err = errors.Join(err, add(driver+name, fmt.Sprintf("{{if false}}{{template %q}}{{end}}", name)))
	}
	if err != nil {
		return nil, "", err
	}
	for _, name := range names {
		if set.ExecuteTemplate(io.Discard, driver+name, nil) != nil {
			return nil, name, nil
		}
	}
	return trees, "", nil
}

// derive adds what the escaped calls have come to call, if it has blocks, and reports
// whether that was anything new.
func (c *compiled[T]) derive(escaped map[string]*parse.Tree) bool {
	bases := make(map[string]string) // by derived name
	for name, tree := range c.trees {
		var before, after []string
		templateNodes(tree.Root, func(n *parse.TemplateNode) { before = append(before, n.Name) })
		templateNodes(escaped[name].Root, func(n *parse.TemplateNode) {
			if !strings.HasPrefix(n.Name, probePrefix) {
				after = append(after, n.Name)
			}
		})
		for i, name := range after {
			if c.trees[name] == nil {
				bases[name] = before[i]
			}
		}
	}
	holders, added := c.holders(), false
	for derived, base := range bases {
		if !holders[base] {
			continue
		}
		tree := c.trees[base].Copy()
		tree.Name = derived
		eachBlock(tree.Root, func(id *parse.NumberNode, _ *parse.ListNode) {
			info := c.blocks[id.Int64]
			setID(id, len(c.blocks))
			c.blocks = append(c.blocks, info)
		})
		c.trees[derived] = tree
		added = true
	}
	return added
}

// holders returns the templates with a block in them or in what they call.
func (c *compiled[T]) holders() map[string]bool {
	calls := make(map[string][]string, len(c.trees))
	direct := make(map[string]bool)
	for name, tree := range c.trees {
		templateNodes(tree.Root, func(n *parse.TemplateNode) { calls[name] = append(calls[name], n.Name) })
		eachBlock(tree.Root, func(*parse.NumberNode, *parse.ListNode) { direct[name] = true })
	}
	holders := make(map[string]bool)
	for name := range c.trees {
		for _, callee := range append(digest.Reachable(calls[name], calls), name) {
			if direct[callee] {
				holders[name] = true
				break
			}
		}
	}
	return holders
}

// nameContexts adds the context of each block to its digest, and takes the
// digest from blocks that cannot be reached from the templates that can be executed.
func (c *compiled[T]) nameContexts(escaped map[string]*parse.Tree, entries []string) {
	calls := make(map[string][]string, len(escaped))
	for name, tree := range escaped {
		templateNodes(tree.Root, func(n *parse.TemplateNode) { calls[name] = append(calls[name], n.Name) })
	}
	known := make(map[string]bool)
	for _, name := range append(digest.Reachable(entries, calls), entries...) {
		known[name] = true
	}
	for name, tree := range escaped {
		eachBlock(tree.Root, func(id *parse.NumberNode, body *parse.ListNode) {
			info := &c.blocks[id.Int64]
			probe := body.Nodes[0].(*parse.TemplateNode).Name
			context, ok := strings.CutPrefix(probe, probePrefix+strconv.FormatInt(id.Int64, 10))
			if !known[name] || !ok {
				info.digest = ""
				return
			}
			info.digest += context
		})
	}
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
	err = errors.Join(err, set.ExecuteTemplate(&out, "page", nil))
	if err != nil || out.String() != `<p title="ours">` {
		return errors.Join(errors.New("tmpl: this version of html/template does not tell the context of a block as it did up to Go 1.26; "+
			"please report it"), err)
	}
	return nil
})
