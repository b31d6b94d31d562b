// Package digest hashes the source of templates.
package digest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
	"text/template/parse"
)

// size is the length of a digest in bytes.
const size = 16

// Set hashes pieces of a set of associated templates.
type Set struct {
	salt  string
	sums  map[string][]byte
	calls map[string][]string
}

// New returns a Set. The salt is part of every digest.
func New(salt string, trees map[string]*parse.Tree) *Set {
	s := &Set{salt, make(map[string][]byte, len(trees)), make(map[string][]string, len(trees))}
	for name, tree := range trees {
		w := newWriter()
		w.list(tree.Root)
		s.sums[name], s.calls[name] = w.h.Sum(nil), w.calls
	}
	return s
}

// Of returns the digest of a node and of all templates that it calls, directly
// or through others.
func (s *Set) Of(n parse.Node) string {
	w := newWriter()
	w.string(s.salt)
	w.node(n)
	for _, name := range Reachable(w.calls, s.calls) {
		w.string(name)
		w.h.Write(s.sums[name])
	}
	return base64.RawURLEncoding.EncodeToString(w.h.Sum(nil)[:size])
}

// Reachable returns the names in from and all that they call, sorted.
func Reachable(from []string, calls map[string][]string) []string {
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
	return slices.Sorted(maps.Keys(seen))
}

// writer writes a parse tree into a hash so that different trees write
// different bytes: Node.String does not tell text that looks like an action
// from an action.
type writer struct {
	h     hash.Hash
	calls []string // templates called by the nodes written
}

func newWriter() *writer { return &writer{h: sha256.New()} }

func (w *writer) string(s string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s)))
	w.h.Write(n[:])
	w.h.Write([]byte(s))
}

func (w *writer) list(list *parse.ListNode) {
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

func (w *writer) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		w.list(n)
	case *parse.TextNode:
		w.string("text")
		w.string(string(n.Text))
	case *parse.IfNode:
		w.branch("if", &n.BranchNode)
	case *parse.RangeNode:
		w.branch("range", &n.BranchNode)
	case *parse.WithNode:
		w.branch("with", &n.BranchNode)
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

func (w *writer) branch(kind string, n *parse.BranchNode) {
	w.string(kind)
	w.string(n.Pipe.String())
	w.list(n.List)
	w.list(n.ElseList)
}
