package engine

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	texttemplate "text/template"
	"text/template/parse"

	"github.com/icache-go/icache-agent/icache"
)

// Engine is what *html/template.Template and *text/template.Template have in
// common as far as a Set needs it.
type Engine[T any] interface {
	AddParseTree(name string, tree *parse.Tree) (T, error)
	ExecuteTemplate(w io.Writer, name string, data any) error
	Funcs(funcs texttemplate.FuncMap) T
	Lookup(name string) T
	Option(options ...string) T
}

// Flavour tells the two standard packages apart.
type Flavour[T Engine[T]] struct {
	// Name is part of every digest: the two render one source differently.
	Name string
	// New makes an empty template.
	New func(name string) T
	// Escapes says that executing edits trees, by the context of each call.
	Escapes bool
	// Reword makes an error speak of the tag instead of what it is folded to.
	Reword func(error) error
}

// Set is a set of associated templates. It is safe for concurrent use; unlike
// in html/template it may be added to after it has been executed, which
// executions that have begun do not notice.
type Set[T Engine[T]] struct {
	flavour Flavour[T]
	root    string
	cache   atomic.Pointer[icache.Cache]

	mu      sync.Mutex
	sources map[string]*source
	funcs   texttemplate.FuncMap
	options []string
	blocks  int // made so far

	ready atomic.Pointer[compiled[T]] // nil after a change
}

// NewSet returns an empty set. Root is the name that its errors go by.
func NewSet[T Engine[T]](f Flavour[T], root string) *Set[T] {
	return &Set[T]{flavour: f, root: root, sources: make(map[string]*source), funcs: make(texttemplate.FuncMap)}
}

// SetCache makes c the cache of executions that begin from now on.
func (s *Set[T]) SetCache(c *icache.Cache) { s.cache.Store(c) }

// Clone returns a copy that is changed independently of s.
func (s *Set[T]) Clone() *Set[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := NewSet(s.flavour, s.root)
	c.cache.Store(s.cache.Load())
	// Sources are not changed once they are in a set.
	c.sources = maps.Clone(s.sources)
	c.funcs = maps.Clone(s.funcs)
	c.options = slices.Clone(s.options)
	c.blocks = s.blocks
	return c
}

// Funcs adds functions. Like the standard library it panics if one cannot be
// called from a template, and also if its name is the tag's.
func (s *Set[T]) Funcs(funcs texttemplate.FuncMap) {
	for name := range funcs {
		if Reserved(name) {
			panic(fmt.Sprintf("tmpl: the function name %q is reserved for the tag", name))
		}
	}
	texttemplate.New("").Funcs(funcs) // panics like the original
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.funcs, funcs)
	s.ready.Store(nil)
}

// Option sets options. Like the standard library it panics on unknown ones.
func (s *Set[T]) Option(options ...string) {
	texttemplate.New("").Option(options...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options = append(s.options, options...)
	s.ready.Store(nil)
}

// Parse parses text as the template name and adds it and what it defines.
func (s *Set[T]) Parse(name, text, left, right string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sources, err := parseSource(name, text, delims{left, right}, s.funcs, s.nextID)
	if err != nil {
		return err
	}
	for name, src := range sources {
		s.add(name, src)
	}
	return nil
}

// AddParseTree adds a copy of a tree that was parsed elsewhere, without blocks.
func (s *Set[T]) AddParseTree(name string, tree *parse.Tree) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(name, &source{tree: tree.Copy()})
}

// add replaces a template, unless by an empty one: a file that consists of
// {{define}}s does not undo what has its name.
func (s *Set[T]) add(name string, src *source) {
	if old := s.sources[name]; old != nil && parse.IsEmptyTree(src.tree.Root) {
		return
	}
	s.sources[name] = src
	s.ready.Store(nil)
}

func (s *Set[T]) nextID() int {
	s.blocks++
	return s.blocks - 1
}

// Names returns the names of the templates, sorted.
func (s *Set[T]) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.sources))
}

// Defined says whether the set has a template of that name.
func (s *Set[T]) Defined(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources[name] != nil
}

// DefinedTemplates words Names as the standard library does.
func (s *Set[T]) DefinedTemplates() string {
	names := s.Names()
	if len(names) == 0 {
		return ""
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%q", name)
	}
	return "; defined templates are: " + strings.Join(names, ", ")
}

// Execute executes the template name and writes its output to w.
func (s *Set[T]) Execute(ctx context.Context, w io.Writer, name string, data any) error {
	c, err := s.compile()
	if err != nil {
		return err
	}
	inst, err := c.get()
	if err != nil {
		return err
	}
	if err := inst.execute(ctx, s.cache.Load(), w, name, data); err != nil {
		c.put(inst)
		return s.flavour.Reword(err)
	}
	c.put(inst)
	return nil
}

func (s *Set[T]) compile() (*compiled[T], error) {
	if c := s.ready.Load(); c != nil {
		return c, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.ready.Load(); c != nil {
		return c, nil
	}
	c, err := newCompiled(s)
	if err != nil {
		return nil, err
	}
	s.ready.Store(c)
	return c, nil
}
