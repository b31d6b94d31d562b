// Command echo serves a page of cached blocks with Echo. REDIS_URL says where
// the cache is; the default is redis://localhost:6379/0.
package main

import (
	"cmp"
	"context"
	"embed"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl/html/template"
)

//go:embed pages
var files embed.FS

// Movie is a row of the page.
type Movie struct {
	ID    int
	Title string
}

// Store is where movies come from: a database, in a real program. It is asked
// from inside the cached blocks, and so not at all on a hit. A row reads its
// movie inside its own block: what was read with the list may be older than the
// version of the row, and would be kept under it.
type Store interface {
	// Movies returns the ids of all movies.
	Movies(ctx context.Context) ([]int, error)
	Movie(ctx context.Context, id int) (Movie, error)
}

// NewHandler returns the site.
func NewHandler(cache *icache.Cache, store Store) (*echo.Echo, error) {
	pages, err := template.ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.Renderer = Renderer{pages.Cache(cache)}
	e.GET("/movies", func(c echo.Context) error {
		return c.Render(http.StatusOK, "movies.html", map[string]any{"Store": store})
	})
	return e, nil
}

// sample is a store for trying the page out.
type sample struct{}

func (sample) Movies(context.Context) ([]int, error) {
	time.Sleep(time.Second) // what a hit saves
	return []int{1, 2}, nil
}

func (sample) Movie(_ context.Context, id int) (Movie, error) {
	return []Movie{{1, "Stalker"}, {2, "Ran"}}[id-1], nil
}

func run() error {
	options, err := redis.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://localhost:6379/0"))
	if err != nil {
		return err
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()
	cache, err := icache.New(rdb)
	if err != nil {
		return err
	}
	defer cache.Close()
	handler, err := NewHandler(cache, sample{})
	if err != nil {
		return err
	}
	server := &http.Server{Addr: "localhost:8080", Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	log.Print("http://" + server.Addr + "/movies")
	return server.ListenAndServe()
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
