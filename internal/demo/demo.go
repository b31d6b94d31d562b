// Package demo is the command icache-agent demo: a database of films, the
// agent, and a page made of cached fragments, on servers that it finds or
// starts and removes again.
package demo

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	defaultListen = "127.0.0.1:8080"
	portsTried    = 20
	startLimit    = 30 * time.Second
	endLimit      = 30 * time.Second
)

// Options configure Run.
type Options struct {
	// Once tells the story without a browser and returns.
	Once bool
	// Listen is the address of the page. Defaults to 127.0.0.1:8080, or the
	// next port that is free.
	Listen string

	// Engines are further engines for the gallery, after those of the standard
	// library.
	Engines []NewEngine

	Stdout, Stderr io.Writer
	// Getenv looks up environment variables. Defaults to os.Getenv.
	Getenv func(string) string
	// Logger receives what the agent logs. Defaults to errors only, on Stderr.
	Logger *slog.Logger
}

// Run runs the demo until ctx ends, or, with Once, until its story has been
// told. When it returns, whatever it started or made is gone again. A story
// that does not hold is an error.
func Run(ctx context.Context, opt Options) (err error) {
	opt = opt.withDefaults()
	// Before any server is started: a port that is taken is known at once.
	ln, err := listen(ctx, opt)
	if err != nil {
		return err
	}
	st, err := open(ctx, opt)
	defer func() { err = errors.Join(err, st.close()) }()
	if err != nil {
		ln.Close()
		if ctx.Err() != nil {
			return nil // Ctrl-C while starting
		}
		return err
	}
	web, err := newServer(st, opt.Logger)
	if err != nil {
		ln.Close()
		return err
	}
	return web.serve(ctx, ln, func(ctx context.Context, url string) error {
		if opt.Once {
			return tell(ctx, story{out: opt.Stdout, url: url, stage: st, limit: freshLimit})
		}
		printf(opt.Stdout, "\n  Open      %s\n            %s/gallery: one list in %d template engines\n", url, url, len(web.pictures.engines))
		if web.psql != "" {
			printf(opt.Stdout, "  Try       %s\n", web.psql)
		} else {
			printf(opt.Stdout, "  Try       UPDATE icache_demo.films SET title = 'Se7en' WHERE id = 12, with any client at %s\n", st.postgres.URL)
		}
		printf(opt.Stdout, "            Change a row yourself and watch the page.\n  Stop      Ctrl-C\n\n")
		<-ctx.Done()
		printf(opt.Stdout, "\n  Stopping, and removing everything that was started.\n")
		return nil
	})
}

func (opt Options) withDefaults() Options {
	if opt.Stdout == nil {
		opt.Stdout = io.Discard
	}
	if opt.Stderr == nil {
		opt.Stderr = io.Discard
	}
	if opt.Getenv == nil {
		opt.Getenv = os.Getenv
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.NewTextHandler(opt.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	return opt
}

func printf(w io.Writer, format string, args ...any) { fmt.Fprintf(w, format, args...) }

// listen binds the page's address.
func listen(ctx context.Context, opt Options) (net.Listener, error) {
	var lc net.ListenConfig
	if opt.Once {
		return lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if opt.Listen != "" {
		ln, err := lc.Listen(ctx, "tcp", opt.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen for the page: %w", err)
		}
		return ln, nil
	}
	host, first, err := net.SplitHostPort(defaultListen)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(first)
	if err != nil {
		return nil, err
	}
	for i := range portsTried {
		var ln net.Listener
		if ln, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port+i))); err == nil {
			return ln, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			break
		}
	}
	return nil, fmt.Errorf("listen for the page: %w; name an address with --listen", err)
}

// newServer makes the page for what has been set up.
func newServer(st *stage, log *slog.Logger) (*server, error) {
	db := database{st.pool}
	panels, err := newPanels(st.cache, db)
	if err != nil {
		return nil, err
	}
	pictures, err := newGallery(st.cache, db, st.opt.Engines)
	if err != nil {
		return nil, err
	}
	chrome, err := template.New("chrome").Funcs(funcs).ParseFS(templatesFS, "templates/page.html", "templates/pictures.html")
	if err != nil {
		return nil, err
	}
	return &server{
		db: db, panels: panels, pictures: pictures, changes: st.changes, chrome: chrome, log: log,
		psql:    st.postgres.Client(statements[0].SQL),
		servers: []serverLine{{st.postgres.Name, st.postgres.Where}, {st.redis.Name, st.redis.Where}},
	}, nil
}

// serve answers on ln while run runs.
func (s *server) serve(ctx context.Context, ln net.Listener, run func(ctx context.Context, url string) error) error {
	stopping := make(chan struct{})
	s.stopping = stopping
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := srv.Serve(ln)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		cancel(err)
		done <- err
	}()
	err := run(ctx, "http://"+ln.Addr().String())
	close(stopping) // the event streams, which would keep Shutdown waiting
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer stop()
	if srv.Shutdown(end) != nil {
		_ = srv.Close()
	}
	return errors.Join(err, <-done)
}
