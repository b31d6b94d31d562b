package engine

import (
	"text/template/parse"

	"github.com/icache-go/icache-agent/tmpl/internal/digest"
)

// digests hashes the source of each block: its arguments, its body, and the
// templates that the body calls, directly or through others. What it leaves out
// is what a template cannot show: the Go code of functions and methods.
func digests(sources map[string]*source, flavour string) map[int]string {
	trees := make(map[string]*parse.Tree, len(sources))
	for name, src := range sources {
		trees[name] = src.tree
	}
	set := digest.New(flavour, trees)
	out := make(map[int]string)
	for _, src := range sources {
		for _, b := range src.blocks {
			out[b.id] = set.Of(b.node)
		}
	}
	return out
}
