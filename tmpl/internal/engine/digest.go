package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
	"text/template/parse"
)

// digestSize is the length of a digest in bytes.
const digestSize = 16

// digests hashes the source of each block: its arguments, its body, and the
// templates that the body calls, directly or through others. What it leaves out
// is what a template cannot show: the Go code of functions and methods.
func digests(sources map[string]*source, flavour string) map[int][digestSize]byte {
	trees := make(map[string][]byte, len(sources))
	calls := make(map[string][]string, len(sources))
	for name, src := range sources {
		h := sha256.New()
		w := &treeHasher{h: h}
		w.list(src.tree.Root)
		trees[name], calls[name] = h.Sum(nil), w.calls
	}
	out := make(map[int][digestSize]byte)
	for _, src := range sources {
		for _, b := range src.blocks {
			h := sha256.New()
			w := &treeHasher{h: h}
			w.string(flavour)
			w.node(b.node)
			for _, name := range reachable(w.calls, calls) {
				w.string(name)
				h.Write(trees[name])
			}
			out[b.id] = [digestSize]byte(h.Sum(nil))
		}
	}
	return out
}

// reachable returns the templates called from the names in from, sorted.
func reachable(from []string, calls map[string][]string) []string {
	seen := make(map[string]bool)
	var visit func(names []string)
	visit = func(names []string) {
		for _, name := range names {
			if !seen[name] {
				seen[name] = true
				visit(calls[name])
			}
		}
	}
	visit(from)
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// treeHasher writes a parse tree into a hash so that different trees write
// different bytes: Node.String does not tell a text that looks like an action from an action.
type treeHasher struct {
	h     hash.Hash
	calls []string // templates called by the nodes written
}

func (w *treeHasher) string(s string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s)))
	w.h.Write(n[:])
	w.h.Write([]byte(s))
}

func (w *treeHasher) list(list *parse.ListNode) {
	if list == nil {
		w.string("-")
		return
	}
	w.string("[")
	for _, n := range list.Nodes {
		w.node(n)
	}
	w.string("]")
}

func (w *treeHasher) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.TextNode:
		w.string("text")
		w.string(string(n.Text))
	case *parse.IfNode:
		w.string("if")
		if _, ok := blockID(&n.BranchNode); ok {
			// The number depends on what else was parsed; its text does not.
			w.string(openName)
			for _, arg := range n.Pipe.Cmds[0].Args[1:] {
				w.string(arg.String())
			}
			w.list(n.List)
			return
		}
		w.branch(&n.BranchNode)
	case *parse.RangeNode:
		w.string("range")
		w.branch(&n.BranchNode)
	case *parse.WithNode:
		w.string("with")
		w.branch(&n.BranchNode)
	case *parse.TemplateNode:
		w.string("template")
		w.string(n.String())
		w.calls = append(w.calls, n.Name)
	case *parse.CommentNode:
	default:
		w.string("action")
		w.string(n.String())
	}
}

func (w *treeHasher) branch(n *parse.BranchNode) {
	w.string(n.Pipe.String())
	w.list(n.List)
	w.list(n.ElseList)
}

// templateNodes calls fn for every {{template}} below list, in order.
func templateNodes(list *parse.ListNode, fn func(*parse.TemplateNode)) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.TemplateNode:
			fn(n)
		case *parse.IfNode:
			templateNodes(n.List, fn)
			templateNodes(n.ElseList, fn)
		case *parse.RangeNode:
			templateNodes(n.List, fn)
			templateNodes(n.ElseList, fn)
		case *parse.WithNode:
			templateNodes(n.List, fn)
			templateNodes(n.ElseList, fn)
		}
	}
}

// eachBlock calls fn for the number and the body of every block below list,
// outer ones first.
func eachBlock(list *parse.ListNode, fn func(id *parse.NumberNode, body *parse.ListNode)) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.IfNode:
			if id, ok := blockID(&n.BranchNode); ok {
				fn(id, n.List)
			}
			eachBlock(n.List, fn)
			eachBlock(n.ElseList, fn)
		case *parse.RangeNode:
			eachBlock(n.List, fn)
			eachBlock(n.ElseList, fn)
		case *parse.WithNode:
			eachBlock(n.List, fn)
			eachBlock(n.ElseList, fn)
		}
	}
}
