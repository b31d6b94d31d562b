// Command gin serves a page of cached blocks with Gin. REDIS_URL says where the
// cache is; the default is redis://localhost:6379/0.
package main

import (
	"cmp"
	"context"
	"embed"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
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
func NewHandler(cache *icache.Cache, store Store) (http.Handler, error) {
	pages, err := template.ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	r := gin.New()
	r.Use(gin.Recovery(), answerErrors)
	html := HTML{pages.Cache(cache)}
	r.HTMLRender = html
	r.GET("/about", func(c *gin.Context) {
		c.HTML(http.StatusOK, "about.html", nil)
	})
	r.GET("/movies", func(c *gin.Context) {
		html.Page(c, http.StatusOK, "movies.html", gin.H{"Store": store})
	})
	return r, nil
}

// answerErrors turns a page that failed into an answer.
func answerErrors(c *gin.Context) {
	c.Next()
	if err := c.Errors.Last(); err != nil && !c.Writer.Written() {
		log.Print(err)
		c.String(http.StatusInternalServerError, "The page could not be made.")
	}
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
