package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	texttemplate "text/template"
	"text/template/parse"
)

// The names that the tag takes from the functions of a template.
const (
	openName  = "icache"
	closeName = "endicache"
	varyName  = "vary"
	ctxName   = "icachectx"
)

// Reserved reports whether name belongs to the tag and cannot be a function of
// the user's.
func Reserved(name string) bool {
	return stubs[name] != nil
}

// stubs let the standard parser accept the tag.
var stubs = texttemplate.FuncMap{
	openName:  func(...any) bool { return false },
	closeName: func(...any) bool { return false },
	varyName:  func(...any) any { return nil },
	ctxName:   func() any { return nil },
}

// source is one template: its tree, with blocks folded, and the blocks in it.
type source struct {
	tree   *parse.Tree
	blocks []*block
}

// block is one {{icache}} … {{endicache}} in a source.
type block struct {
	id   int
	node *parse.IfNode // the folded block
	args []string      // the arguments as written, for messages
	lead []any         // the values of the literal strings that they begin with
	at   string        // file:line:column
}

// delims are the action delimiters of a template; empty means the default.
type delims struct{ left, right string }

// parseSource parses text and folds its blocks. nextID numbers them.
func parseSource(name, text string, d delims, funcs texttemplate.FuncMap, nextID func() int) (map[string]*source, error) {
	t, err := texttemplate.New(name).Delims(d.left, d.right).Funcs(funcs).Funcs(stubs).Parse(text)
	if err != nil {
		return nil, err
	}
	donor, err := newDonor(name, text)
	if err != nil {
		return nil, err
	}
	templates := slices.DeleteFunc(t.Templates(), func(t *texttemplate.Template) bool { return t.Tree == nil })
	// In order, so that of several mistakes always the same is reported.
	slices.SortFunc(templates, func(a, b *texttemplate.Template) int {
		return cmp.Compare(a.Root.Pos, b.Root.Pos)
	})
	sources := make(map[string]*source)
	for _, t := range templates {
		src, err := foldTree(t.Tree, donor, nextID)
		if err != nil {
			return nil, err
		}
		sources[t.Name()] = src
	}
	return sources, nil
}

// donor provides nodes that the parse package alone can make: a node knows the
// tree it belongs to, which errors need to tell file, line and column.
type donor struct {
	open  *parse.IfNode     // {{if icache 0}}{{end}}
	close *parse.IfNode     // {{if endicache}}{{end}}
	id    *parse.NumberNode // the 0 of open
}

// newDonor parses a text in which every position is on the line and in the
// column that it has in text: text blanked out, followed by the nodes wanted.
func newDonor(name, text string) (*donor, error) {
	blank := []byte(text)
	for i, c := range blank {
		if c != '\n' {
			blank[i] = ' '
		}
	}
	tree := parse.New(name)
	tree.Mode = parse.SkipFuncCheck
	source := string(blank) + "{{if " + openName + " 0}}{{end}}{{if " + closeName + "}}{{end}}"
	if _, err := tree.Parse(source, "{{", "}}", map[string]*parse.Tree{}); err != nil {
		return nil, fmt.Errorf("tmpl: %w", err)
	}
	nodes := tree.Root.Nodes
	open, close := nodes[len(nodes)-2].(*parse.IfNode), nodes[len(nodes)-1].(*parse.IfNode)
	return &donor{open: open, close: close, id: open.Pipe.Cmds[0].Args[1].(*parse.NumberNode)}, nil
}

// idNode returns the node of a block's number. Messages show text for it.
func (d *donor) idNode(id int, pos parse.Pos, text string) *parse.NumberNode {
	n := d.id.Copy().(*parse.NumberNode)
	n.Pos, n.Text = pos, text
	setID(n, id)
	return n
}

func setID(n *parse.NumberNode, id int) {
	n.IsInt, n.Int64 = true, int64(id)
	n.IsUint, n.Uint64 = true, uint64(id)
	n.IsFloat, n.Float64 = true, float64(id)
}

// closing returns {{if endicache}}{{end}}. It is an {{if}} and not an action
// because an action prints something in some contexts (a quoted "" in scripts).
func (d *donor) closing(pos parse.Pos, line int) *parse.IfNode {
	n := d.close.Copy().(*parse.IfNode)
	n.Pos, n.Line = pos, line
	n.Pipe.Pos, n.Pipe.Line = pos, line
	n.List.Pos = pos
	for _, cmd := range n.Pipe.Cmds {
		cmd.Pos = pos
		for _, arg := range cmd.Args {
			arg.(*parse.IdentifierNode).Pos = pos
		}
	}
	return n
}

// foldTree folds the blocks of a tree, in place.
func foldTree(tree *parse.Tree, d *donor, nextID func() int) (*source, error) {
	f := &folder{tree: tree, donor: d, nextID: nextID, src: &source{tree: tree}}
	if err := f.list(tree.Root); err != nil {
		return nil, err
	}
	if len(f.src.blocks) > 0 {
		if err := checkScopes(tree); err != nil {
			return nil, err
		}
	}
	return f.src, nil
}

type folder struct {
	tree   *parse.Tree
	donor  *donor
	nextID func() int
	src    *source
}

func (f *folder) errorf(n parse.Node, format string, args ...any) error {
	return errorAt(f.tree, n, format, args...)
}

// errorAt words an error as the parser of the standard library does.
func errorAt(tree *parse.Tree, n parse.Node, format string, args ...any) error {
	at, _ := tree.ErrorContext(n)
	return fmt.Errorf("template: %s: %s", at, fmt.Sprintf(format, args...))
}

// list folds the blocks of one list of nodes. A block begins and ends in the
// same list: {{if}}{{icache "x"}}{{end}}{{endicache}} is not one.
func (f *folder) list(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	type frame struct {
		open  *parse.ActionNode
		outer []parse.Node
	}
	var stack []frame
	nodes := make([]parse.Node, 0, len(list.Nodes))
	for _, n := range list.Nodes {
		if action, ok := n.(*parse.ActionNode); ok {
			switch calls(action) {
			case openName:
				if err := f.checkOpen(action); err != nil {
					return err
				}
				stack = append(stack, frame{action, nodes})
				nodes = nil
				continue
			case closeName:
				if len(stack) == 0 {
					return f.errorf(n, "{{%s}} without {{%s}} before it in the same branch", closeName, openName)
				}
				if len(action.Pipe.Cmds[0].Args) > 1 {
					return f.errorf(n, "{{%s}} takes no arguments", closeName)
				}
				top := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				nodes = append(top.outer, f.fold(top.open, nodes, action))
				continue
			}
		}
		if err := f.node(n); err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	if len(stack) > 0 {
		open := stack[len(stack)-1].open
		return f.errorf(open, "%s is not closed: {{%s}} is missing in the same branch", open, closeName)
	}
	list.Nodes = nodes
	return nil
}

// node descends into a node that is not part of the tag.
func (f *folder) node(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ActionNode:
		return f.misuse(n.Pipe)
	case *parse.TemplateNode:
		return f.misuse(n.Pipe)
	case *parse.IfNode:
		return f.branch(&n.BranchNode)
	case *parse.RangeNode:
		return f.branch(&n.BranchNode)
	case *parse.WithNode:
		return f.branch(&n.BranchNode)
	}
	return nil
}

func (f *folder) branch(n *parse.BranchNode) error {
	if err := f.misuse(n.Pipe); err != nil {
		return err
	}
	if err := f.list(n.List); err != nil {
		return err
	}
	return f.list(n.ElseList)
}

// calls returns the name of the tag's function that the action is a plain call
// of, or "".
func calls(n *parse.ActionNode) string {
	if len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 {
		return ""
	}
	if id, ok := n.Pipe.Cmds[0].Args[0].(*parse.IdentifierNode); ok && (id.Ident == openName || id.Ident == closeName) {
		return id.Ident
	}
	return ""
}

// checkOpen checks the arguments of {{icache …}}: a name at least, and the tag's
// functions nowhere but (vary …) as an argument.
func (f *folder) checkOpen(n *parse.ActionNode) error {
	args := n.Pipe.Cmds[0].Args[1:]
	if len(args) == 0 {
		return f.errorf(n, `{{%s}} needs the name of the fragment: {{%[1]s "name" "token" …}}`, openName)
	}
	for i, arg := range args {
		pipe, ok := arg.(*parse.PipeNode)
		if !ok || !isVary(pipe) {
			if err := f.misuse(arg); err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			return f.errorf(arg, "the first argument of {{%s}} names the fragment and cannot be (%s …)", openName, varyName)
		}
		if err := f.misuseArgs(pipe.Cmds[0].Args[1:]); err != nil {
			return err
		}
	}
	return nil
}

func isVary(pipe *parse.PipeNode) bool {
	if len(pipe.Cmds) != 1 || len(pipe.Decl) > 0 {
		return false
	}
	id, ok := pipe.Cmds[0].Args[0].(*parse.IdentifierNode)
	return ok && id.Ident == varyName
}

// misuse reports a call of one of the tag's functions below n.
func (f *folder) misuse(n parse.Node) error {
	switch n := n.(type) {
	case *parse.PipeNode:
		if n == nil {
			return nil
		}
		for _, cmd := range n.Cmds {
			if err := f.misuseArgs(cmd.Args); err != nil {
				return err
			}
		}
	case *parse.ChainNode:
		return f.misuse(n.Node)
	case *parse.IdentifierNode:
		switch n.Ident {
		case openName, closeName:
			return f.errorf(n, "%s stands alone in its action: {{%s …}} … {{%s}}", n.Ident, openName, closeName)
		case varyName:
			return f.errorf(n, `(%s …) is an argument of {{%s}}: {{%[2]s "name" (%[1]s .Lang)}}`, varyName, openName)
		}
	}
	return nil
}

func (f *folder) misuseArgs(args []parse.Node) error {
	for _, arg := range args {
		if err := f.misuse(arg); err != nil {
			return err
		}
	}
	return nil
}

// fold makes one node of a block.
func (f *folder) fold(open *parse.ActionNode, body []parse.Node, end *parse.ActionNode) *parse.IfNode {
	b := &block{id: f.nextID()}
	b.at, _ = f.tree.ErrorContext(open)
	cmd := open.Pipe.Cmds[0]
	args := cmd.Args[1:]
	for _, arg := range args {
		b.args = append(b.args, arg.String())
	}
	// Evaluating an argument by reflection costs more than all we do with it:
	// literals are taken out. The number takes their place, also in messages.
	for len(args) > 0 {
		literal, ok := args[0].(*parse.StringNode)
		if !ok {
			break
		}
		b.lead = append(b.lead, literal.Text)
		args = args[1:]
	}
	id := f.donor.idNode(b.id, open.Pos, strings.Join(b.args[:len(b.lead)], " "))
	cmd.Args = append([]parse.Node{cmd.Args[0], id}, args...)

	n := f.donor.open.Copy().(*parse.IfNode)
	n.Pos, n.Line, n.Pipe = open.Pos, open.Line, open.Pipe
	n.List.Pos = open.Pos
	if len(body) > 0 {
		n.List.Pos = body[0].Position()
	}
	n.List.Nodes = append(body, f.donor.closing(end.Pos, end.Line))
	b.node = n
	f.src.blocks = append(f.src.blocks, b)
	return n
}

// blockID returns the number of a folded block, or false for any other node.
func blockID(n *parse.BranchNode) (*parse.NumberNode, bool) {
	if len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) < 2 {
		return nil, false
	}
	args := n.Pipe.Cmds[0].Args
	if id, ok := args[0].(*parse.IdentifierNode); !ok || id.Ident != openName {
		return nil, false
	}
	num, ok := args[1].(*parse.NumberNode)
	return num, ok
}

// IsBlock reports whether n is a folded block.
func IsBlock(n *parse.BranchNode) bool {
	_, ok := blockID(n)
	return ok
}
