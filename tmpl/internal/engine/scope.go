package engine

import (
	"slices"
	"text/template/parse"
)

// checkScopes walks a folded tree and refuses what would make the output with
// the cache differ from the output without it:
//
//   - {{break}} and {{continue}} out of a block: on a hit they would not happen;
//   - {{$x = …}} in a block for an $x declared outside: same;
//   - $x after a block in which it was declared: on a hit there is no $x. The
//     parser let it pass because it saw no block.
func checkScopes(tree *parse.Tree) error {
	c := &scopeChecker{tree: tree, vars: []scopeVar{{name: "$"}}}
	return c.list(tree.Root)
}

type scopeVar struct {
	name  string
	depth int // blocks around the declaration
}

type scopeChecker struct {
	tree  *parse.Tree
	vars  []scopeVar
	depth int   // blocks around the node
	loops []int // depth at each {{range}} around the node
}

func (c *scopeChecker) list(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := c.node(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *scopeChecker) node(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ActionNode:
		return c.pipe(n.Pipe)
	case *parse.TemplateNode:
		return c.pipe(n.Pipe)
	case *parse.BreakNode:
		return c.leave(n, "break")
	case *parse.ContinueNode:
		return c.leave(n, "continue")
	case *parse.IfNode:
		if _, ok := blockID(&n.BranchNode); ok {
			return c.block(n)
		}
		return c.branch(&n.BranchNode)
	case *parse.WithNode:
		return c.branch(&n.BranchNode)
	case *parse.RangeNode:
		c.loops = append(c.loops, c.depth)
		defer func() { c.loops = c.loops[:len(c.loops)-1] }()
		return c.branch(&n.BranchNode)
	}
	return nil
}

func (c *scopeChecker) leave(n parse.Node, word string) error {
	if c.loops[len(c.loops)-1] < c.depth {
		return errorAt(c.tree, n, "{{%s}} leaves an {{%s}} block: on a hit it would not happen; move the block into or around the {{range}}", word, openName)
	}
	return nil
}

func (c *scopeChecker) block(n *parse.IfNode) error {
	if err := c.pipe(n.Pipe); err != nil {
		return err
	}
	mark := len(c.vars)
	c.depth++
	err := c.list(n.List)
	c.depth--
	c.vars = c.vars[:mark]
	return err
}

func (c *scopeChecker) branch(n *parse.BranchNode) error {
	mark := len(c.vars)
	defer func() { c.vars = c.vars[:mark] }()
	if err := c.pipe(n.Pipe); err != nil {
		return err
	}
	inner := len(c.vars)
	if err := c.list(n.List); err != nil {
		return err
	}
	c.vars = c.vars[:inner]
	return c.list(n.ElseList)
}

func (c *scopeChecker) pipe(p *parse.PipeNode) error {
	if p == nil {
		return nil
	}
	for _, cmd := range p.Cmds {
		for _, arg := range cmd.Args {
			if err := c.arg(arg); err != nil {
				return err
			}
		}
	}
	for _, v := range p.Decl {
		if !p.IsAssign {
			c.vars = append(c.vars, scopeVar{v.Ident[0], c.depth})
			continue
		}
		found, err := c.lookup(v)
		if err != nil {
			return err
		}
		if found.depth < c.depth {
			return errorAt(c.tree, v, "the {{%s}} block assigns to %s, which is declared outside of it: on a hit that would not happen", openName, v.Ident[0])
		}
	}
	return nil
}

func (c *scopeChecker) arg(n parse.Node) error {
	switch n := n.(type) {
	case *parse.VariableNode:
		_, err := c.lookup(n)
		return err
	case *parse.PipeNode:
		return c.pipe(n)
	case *parse.ChainNode:
		return c.arg(n.Node)
	}
	return nil
}

func (c *scopeChecker) lookup(v *parse.VariableNode) (scopeVar, error) {
	name := v.Ident[0]
	for _, declared := range slices.Backward(c.vars) {
		if declared.name == name {
			return declared, nil
		}
	}
	return scopeVar{}, errorAt(c.tree, v, "undefined variable %q: it is declared in an {{%s}} block and ends with it", name, openName)
}
