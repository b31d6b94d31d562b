package icachepongo2

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

	"github.com/flosch/pongo2/v6"

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

// Register adds the tag icache to pongo2, for all template sets of the process,
// as pongo2 knows no other way; and a tag load that does nothing, for the sake of templates that come from Django,
// unless there is one. It fails if there is a tag icache already. Call it before other goroutines use
// pongo2.
func Register(cfg Config) error {
	digest := sha256.New()
	if cfg.Templates != nil {
		if err := hashFiles(digest, cfg.Templates); err != nil {
			return fmt.Errorf("icachepongo2: read templates: %w", err)
		}
	}
	if err := pongo2.RegisterTag("icache", (&parser{cfg, digest.Sum(nil)}).parse); err != nil {
		return fmt.Errorf("icachepongo2: %w", err)
	}
	// An error means that there is a tag load, which then is the one to have.
	_ = pongo2.RegisterTag("load", parseLoad)
	return nil
}

// ContextVariable is the name of the variable that holds the context.Context of the
// innermost block: functions that take it add their tokens to the block.
const ContextVariable = "icachectx"

// Context adds ctx to the variables of one execution, which reads its blocks
// ahead (see [icache.ReadAhead]). It changes and returns vars.
func Context(ctx context.Context, vars pongo2.Context) pongo2.Context {
	if vars == nil {
		vars = make(pongo2.Context, 1)
	}
	vars[ContextVariable] = icache.ReadAhead(ctx, "pongo2")
	return vars
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

type parser struct {
	cfg    Config
	digest []byte // of Config.Templates
}

func (p *parser) parse(doc *pongo2.Parser, start *pongo2.Token, args *pongo2.Parser) (pongo2.INodeTag, *pongo2.Error) {
	b := &block{cfg: p.cfg, start: start}
	if args.Remaining() == 0 {
		return nil, args.Error("icache needs the name of the fragment: {% icache 'name' 'token' … %}", start)
	}
	for args.Remaining() > 0 {
		if !b.varies() && args.Match(pongo2.TokenIdentifier, "vary") != nil {
			if len(b.args) == 0 {
				return nil, args.Error("The first argument of icache names the fragment.", start)
			}
			b.vary = len(b.args)
			if args.Remaining() == 0 {
				return nil, args.Error("Nothing follows vary.", start)
			}
			continue
		}
		expr, err := args.ParseExpression()
		if err != nil {
			return nil, err
		}
		b.args = append(b.args, expr)
	}
	first := doc.Count() - doc.Remaining()
	body, end, err := doc.WrapUntilTag("endicache")
	if err != nil {
		return nil, err
	}
	if end.Count() > 0 {
		return nil, end.Error("endicache takes no arguments.", nil)
	}
	b.body = body

	h := sha256.New()
	h.Write(p.digest)
	for i := range args.Count() {
		hashToken(h, args.Get(i))
	}
	for i := first; i < doc.Count()-doc.Remaining(); i++ {
		hashToken(h, doc.Get(i))
		if t := doc.Get(i); t.Val == "block" && t.Typ == pongo2.TokenIdentifier && doc.Get(i-1).Val == "{%" {
			return nil, doc.Error("A block inside icache would be cached with the text of whichever template fills it first; put icache inside the block.", t)
		}
	}
	b.digest = base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
	return b, nil
}

func hashToken(h hash.Hash, t *pongo2.Token) {
	h.Write([]byte{byte(t.Typ)})
	hashString(h, t.Val)
}

// parseLoad accepts {% load icache %}.
func parseLoad(_ *pongo2.Parser, start *pongo2.Token, args *pongo2.Parser) (pongo2.INodeTag, *pongo2.Error) {
	for args.Remaining() > 0 {
		lib := args.MatchType(pongo2.TokenIdentifier)
		if lib == nil {
			return nil, args.Error("Expected the name of a tag library.", start)
		}
		if lib.Val != "icache" {
			return nil, args.Error(fmt.Sprintf("There is no tag library %q, only icache.", lib.Val), lib)
		}
	}
	return nothing{}, nil
}

type nothing struct{}

func (nothing) Execute(*pongo2.ExecutionContext, pongo2.TemplateWriter) *pongo2.Error { return nil }

// block is a parsed {% icache %}.
type block struct {
	cfg    Config
	start  *pongo2.Token
	args   []pongo2.IEvaluator
	vary   int // index of the first argument that is no token; 0 if all are
	body   *pongo2.NodeWrapper
	digest string
}

func (b *block) varies() bool { return b.vary > 0 }

// Execute writes the block, from the cache or by rendering it.
func (b *block) Execute(ec *pongo2.ExecutionContext, w pongo2.TemplateWriter) *pongo2.Error {
	values := make([]any, len(b.args))
	for i, arg := range b.args {
		v, err := arg.Evaluate(ec)
		if err != nil {
			return err
		}
		values[i] = v.Interface()
	}
	name, ok := values[0].(string)
	if !ok {
		return ec.Error(fmt.Sprintf("icache: the first argument names the fragment: want a string, not a %T", values[0]), b.start)
	}
	f := tmpl.Fragment{Name: name, Args: values[1:], Options: b.cfg.Options}
	if b.varies() {
		f.Args = append(values[1:b.vary:b.vary], tmpl.Vary(values[b.vary:]...))
	}
	f.Digest = fmt.Sprintf("pongo2 %s %t", b.digest, ec.Autoescape)
	err := tmpl.WriteFragment(contextOf(ec), w, b.cfg.Cache, f, func(ctx context.Context, out io.Writer) error {
		inner := pongo2.NewChildExecutionContext(ec)
		inner.Private[ContextVariable] = ctx
		if err := b.body.Execute(inner, stringWriter(out)); err != nil {
			return err
		}
		return nil
	})
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[*pongo2.Error](err); ok {
		return own
	}
	return ec.OrigError(fmt.Errorf("icache: %w", err), b.start)
}

func contextOf(ec *pongo2.ExecutionContext) context.Context {
	for _, vars := range []pongo2.Context{ec.Private, ec.Public} {
		if ctx, ok := vars[ContextVariable].(context.Context); ok {
			return ctx
		}
	}
	return context.Background()
}

func stringWriter(w io.Writer) pongo2.TemplateWriter {
	if tw, ok := w.(pongo2.TemplateWriter); ok {
		return tw
	}
	return writer{w}
}

type writer struct{ io.Writer }

func (w writer) WriteString(s string) (int, error) { return io.WriteString(w.Writer, s) }
