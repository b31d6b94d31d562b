package icachegonja

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl"
)

// Config says how the tag works. The zero Config caches nothing.
type Config struct {
	// Cache holds the fragments. Default is nil: blocks are rendered every time.
	Cache *icache.Cache
	// Templates are all files that templates are loaded from. Their text is
	// part of every key, so that a deploy that changes any of them starts
	// with new entries. Default is nil: only the text of a block itself is.
	Templates fs.FS
	// Options are passed on to the cache.
	Options []icache.FetchOption
}

// Register adds the tag icache to the control structures of an environment,
// such as gonja.DefaultEnvironment.ControlStructures. It fails if set has a tag
// icache already. Templates that are to have the tag are parsed afterwards.
func Register(set *exec.ControlStructureSet, cfg Config) error {
	digest := sha256.New()
	if cfg.Templates != nil {
		if err := hashFiles(digest, cfg.Templates); err != nil {
			return fmt.Errorf("icachegonja: read templates: %w", err)
		}
	}
	if err := set.Register("icache", (&tag{cfg, set, digest.Sum(nil)}).parse); err != nil {
		return fmt.Errorf("icachegonja: %w", err)
	}
	return nil
}

func hashFiles(h hash.Hash, files fs.FS) error {
	return fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		hashString(h, path)
		hashString(h, string(text))
		return nil
	})
}

func hashString(h hash.Hash, s string) {
	h.Write(binary.AppendUvarint(nil, uint64(len(s))))
	h.Write([]byte(s))
}

// ContextVariable is the name of the variable that holds the context.Context of the
// innermost block: functions that take it add their tokens to the block. It is
// good until the function returns.
const ContextVariable = "icachectx"

// Context returns vars and ctx, for one execution, which reads its blocks ahead
// (see [icache.ReadAhead]). vars may be nil.
func Context(ctx context.Context, vars *exec.Context) *exec.Context {
	s := &scope{}
	s.enter(icache.ReadAhead(ctx, "gonja"))
	all := exec.EmptyContext().Update(vars)
	all.Set(ContextVariable, s)
	return all
}

// scope is the context of the innermost block of one execution. It is a variable
// that changes, since the body of a macro sees the variables of where the macro
// is defined, but belongs to the block that calls it.
type scope struct {
	current atomic.Pointer[context.Context]
}

func (s *scope) context() context.Context { return *s.current.Load() }

// enter makes ctx the current one, and returns a function that undoes it.
func (s *scope) enter(ctx context.Context) (leave func()) {
	outer := s.current.Swap(&ctx)
	return func() { s.current.Store(outer) }
}

type tag struct {
	cfg    Config
	set    *exec.ControlStructureSet
	digest []byte // of Config.Templates
}

func (t *tag) parse(doc, args *parser.Parser) (nodes.ControlStructure, error) {
	if args.End() {
		return nil, doc.Error("icache needs the name of the fragment: {% icache 'name' 'token' … %}", doc.Current())
	}
	b := &block{cfg: t.cfg, start: args.Current()}
	for !args.End() {
		if vary := args.CurrentName("vary"); vary != nil && b.vary == 0 {
			args.Consume()
			if len(b.args) == 0 {
				return nil, args.Error("The first argument of icache names the fragment.", vary)
			}
			b.vary = len(b.args)
			if args.End() {
				return nil, args.Error("Nothing follows vary.", vary)
			}
			continue
		}
		expr, err := args.ParseExpression()
		if err != nil {
			return nil, err
		}
		b.args = append(b.args, expr)
		args.Match(tokens.Comma)
	}

	list, err := body(doc, b.start)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(t.digest)
	hashString(h, fmt.Sprintf("%+v", *doc.Config)) // how blanks are stripped
	for _, token := range list {
		hashString(h, fmt.Sprint(token.Type, token.Trim))
		hashString(h, token.Val)
	}
	b.digest = base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])

	inner := parser.NewParser(doc.Template.Identifier, tokens.NewStream(list), doc.Config, doc.Loader, t.set)
	inner.Template = doc.Template
	var end *parser.Parser
	if b.body, end, err = inner.WrapUntil("endicache"); err != nil {
		return nil, err
	}
	if !end.End() {
		return nil, end.Error("endicache takes no arguments.", end.Current())
	}
	return b, nil
}

// body takes the tokens up to and including {% endicache %} from doc, whose
// stream cannot be read twice: once for the digest, once to be parsed.
func body(doc *parser.Parser, start *tokens.Token) (list []*tokens.Token, err error) {
	depth, loops := 1, 0
	for previous := tokens.Data; depth > 0 || previous != tokens.BlockEnd; {
		if doc.End() {
			return nil, doc.Error("There is no endicache for this icache.", start)
		}
		t := doc.Next()
		switch {
		case t.Type == tokens.Name && previous == tokens.BlockBegin:
			switch t.Val {
			case "icache":
				depth++
			case "endicache":
				depth--
			case "for":
				loops++
			case "endfor":
				loops--
			case "break", "continue":
				if loops <= 0 {
					return nil, doc.Error(t.Val+" inside icache would skip the fragment without its text; put the loop inside icache too.", t)
				}
			case "block":
				return nil, doc.Error("A block inside icache would be cached with the text of whichever template fills it first; put icache inside the block.", t)
			}
		case t.Type == tokens.Name && previous != tokens.Dot && (t.Val == "self" || t.Val == "super"):
			return nil, doc.Error(t.Val+" inside icache would be cached with the text of whichever template is rendered first, and even if it fails; put icache inside the block that it shows.", t)
		}
		list, previous = append(list, t), t.Type
	}
	if next := doc.Current(tokens.Data); next != nil {
		next.Trim = next.Trim || strings.HasPrefix(list[len(list)-1].Val, "-")
	}
	return list, nil
}

// block is a parsed {% icache %}.
type block struct {
	cfg    Config
	start  *tokens.Token // the first argument
	args   []nodes.Expression
	vary   int // index of the first argument that is no token; 0 if all are
	body   *nodes.Wrapper
	digest string
}

func (b *block) Position() *tokens.Token { return b.start }

func (b *block) String() string {
	return fmt.Sprintf("icache(Line=%d Col=%d)", b.start.Line, b.start.Col)
}

// Execute writes the block, from the cache or by rendering it.
func (b *block) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	variable, _ := r.Environment.Context.Get(ContextVariable)
	current, ok := variable.(*scope)
	if !ok {
		return errors.New("icache: no context: execute the template with icachegonja.Context(ctx, vars)")
	}
	values := make([]any, len(b.args))
	for i, arg := range b.args {
		v := r.Eval(arg)
		if v.IsError() {
			return fmt.Errorf("icache: argument %d: %w", i+1, v)
		}
		values[i] = v.Interface()
	}
	name, ok := values[0].(string)
	if !ok {
		return fmt.Errorf("icache: the first argument names the fragment: want a string, not a %T", values[0])
	}
	f := tmpl.Fragment{Name: name, Args: values[1:], Options: b.cfg.Options}
	if b.vary > 0 {
		f.Args = append(values[1:b.vary:b.vary], tmpl.Vary(values[b.vary:]...))
	}
	f.Digest = fmt.Sprintf("gonja %s %t", b.digest, r.Config.AutoEscape)
	err := tmpl.WriteFragment(current.context(), r.Output, b.cfg.Cache, f, func(ctx context.Context, out io.Writer) error {
		defer current.enter(ctx)()
		inner := r.Inherit()
		inner.Output = out
		return inner.ExecuteWrapper(b.body)
	})
	if err != nil {
		return fmt.Errorf("icache: %w", err)
	}
	return nil
}

// A scope is a context, for functions that take the variable. It is not what
// contexts of blocks derive from, which would be a circle.
func (s *scope) Deadline() (time.Time, bool) { return s.context().Deadline() }
func (s *scope) Done() <-chan struct{}       { return s.context().Done() }
func (s *scope) Err() error                  { return s.context().Err() }
func (s *scope) Value(key any) any           { return s.context().Value(key) }
