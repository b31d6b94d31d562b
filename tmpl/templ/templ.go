package icachetempl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"os"
	"sync"

	"github.com/a-h/templ"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl"
)

// Config says how fragments are cached. The zero Config caches nothing.
type Config struct {
	// Cache holds the fragments. Default is nil: they are rendered every time.
	Cache *icache.Cache
	// Version stands for the code of the components: another version is
	// another set of entries. Default is a hash of the running program.
	Version string
	// Options are passed on to the cache.
	Options []icache.FetchOption
}

// Fragments makes cached components. It is safe for concurrent use.
type Fragments struct{ cfg Config }

// New returns Fragments. If the version is not given and the program cannot
// be read, nothing is cached.
func New(cfg Config) *Fragments {
	if cfg.Version == "" && cfg.Cache != nil {
		var err error
		if cfg.Version, err = programHash(); err != nil {
			cfg.Cache = nil
		}
	}
	return &Fragments{cfg}
}

// programHash identifies the running program.
var programHash = sync.OnceValues(func() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]), nil
})

// Cached returns a component that caches its children. The arguments are those
// of [tmpl.Fragment].
func (f *Fragments) Cached(name string, args ...any) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		children := templ.GetChildren(ctx)
		return f.render(templ.ClearChildren(ctx), w, children, name, args)
	})
}

// Wrap returns a component that caches c.
func (f *Fragments) Wrap(c templ.Component, name string, args ...any) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		return f.render(ctx, w, c, name, args)
	})
}

func (f *Fragments) render(ctx context.Context, w io.Writer, c templ.Component, name string, args []any) error {
	ctx = templ.InitializeContext(ctx)
	before := inspect(ctx)
	cache := f.cfg.Cache
	if before.unknown || before.selecting {
		cache = nil
	}
	if before.selecting {
		// What is wanted of this page may be a templ.Fragment inside, which
		// writes elsewhere. It must be rendered, and in place.
		icache.NoStore(ctx)
		return c.Render(ctx, w)
	}
	fragment := tmpl.Fragment{Name: name, Args: args, Digest: "templ " + f.cfg.Version + " " + before.emitted, Options: f.cfg.Options}
	return tmpl.WriteFragment(ctx, w, cache, fragment, func(ctx context.Context, out io.Writer) error {
		if err := c.Render(ctx, out); err != nil {
			return err
		}
		after := inspect(ctx)
		buf, ok := out.(*bytes.Buffer)
		if after.emitted != before.emitted || !ok || containsNonce(ctx, buf) {
			icache.NoStore(ctx)
		}
		return nil
	})
}

func containsNonce(ctx context.Context, out *bytes.Buffer) bool {
	nonce := templ.GetNonce(ctx)
	return nonce != "" && bytes.Contains(out.Bytes(), []byte(nonce))
}
