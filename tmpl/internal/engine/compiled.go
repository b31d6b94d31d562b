package engine

import (
	"context"
	"io"
	"maps"
	"runtime"
	"strings"
	"sync"
	texttemplate "text/template"
	"text/template/parse"

	"github.com/icache-go/icache-agent/icache"
)

// compiled is a set as it was at its first execution after a change. Executions
// take an instance each and bring it back.
type compiled[T Engine[T]] struct {
	flavour Flavour[T]
	root    string
	funcs   texttemplate.FuncMap
	options []string
	trees   map[string]*parse.Tree
	blocks  []blockInfo

	// Instances that wait for the next execution. The channel keeps as many
	// as can run at once, so that the garbage collector, which empties the
	// pool, does not make a quiet server escape its templates over and over.
	idle chan *instance[T]
	rest sync.Pool
}

// instance is a copy of the template set bound to an execution.
type instance[T Engine[T]] struct {
	set T
	x   execution
}

// newCompiled computes what executions need. s is locked.
func newCompiled[T Engine[T]](s *Set[T]) (*compiled[T], error) {
	c := &compiled[T]{
		flavour: s.flavour,
		root:    s.root,
		funcs:   maps.Clone(s.funcs),
		options: s.options,
		trees:   make(map[string]*parse.Tree, len(s.sources)),
		blocks:  make([]blockInfo, s.blocks),
		idle:    make(chan *instance[T], 2*runtime.GOMAXPROCS(0)),
	}
	hashes := digests(s.sources, s.flavour.Name+" "+strings.Join(s.options, " "))
	for name, src := range s.sources {
		c.trees[name] = src.tree
		for _, b := range src.blocks {
			c.blocks[b.id] = blockInfo{digest: hashes[b.id], args: b.args, lead: b.lead}
		}
	}
	if s.flavour.Escapes {
		if err := c.splitContexts(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// build makes a copy of the template set, and returns its trees beside.
func (c *compiled[T]) build(x *execution) (T, map[string]*parse.Tree, error) {
	set := c.flavour.New(c.root).Option(c.options...).Funcs(c.funcs).Funcs(x.funcs())
	trees := c.trees
	if c.flavour.Escapes {
		trees = make(map[string]*parse.Tree, len(c.trees))
		for name, tree := range c.trees {
			trees[name] = tree.Copy()
		}
	}
	for name, tree := range trees {
		if _, err := set.AddParseTree(name, tree); err != nil {
			return set, nil, err
		}
	}
	return set, trees, nil
}

func (c *compiled[T]) get() (*instance[T], error) {
	select {
	case inst := <-c.idle:
		return inst, nil
	default:
	}
	if inst, ok := c.rest.Get().(*instance[T]); ok {
		return inst, nil
	}
	inst := &instance[T]{x: execution{blocks: c.blocks}}
	var err error
	inst.set, _, err = c.build(&inst.x)
	return inst, err
}

func (c *compiled[T]) put(inst *instance[T]) {
	select {
	case c.idle <- inst:
	default:
		c.rest.Put(inst)
	}
}

func (inst *instance[T]) execute(ctx context.Context, cache *icache.Cache, w io.Writer, name string, data any) (err error) {
	x := &inst.x
	if cache != nil && len(x.blocks) > 0 {
		ctx = icache.ReadAhead(ctx, name)
	}
	x.ctx, x.cache, x.w = ctx, cache, w
	// Deferred for the sake of panics: an open block must not keep others waiting.
	defer func() { x.finish(err) }()
	return inst.set.ExecuteTemplate(x, name, data)
}
