package template_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl"
	"github.com/icache-go/icache-agent/tmpl/html/template"
)

// exampleCache is icache.New(redis.NewClient(…)) on a Redis for examples.
func exampleCache() (*icache.Cache, func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	cache, err := icache.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	return cache, func() { cache.Close(); rdb.Close(); server.Close() }
}

// Movies is what the page shows. TopRated reads when it is called, which on a
// hit is never.
type Movies struct{ queries int }

func (m *Movies) TopRated(ctx context.Context) ([]string, error) {
	m.queries++
	return []string{"Stalker", "Ran & friends"}, nil
}

func Example() {
	cache, stop := exampleCache()
	defer stop()
	page := template.Must(template.New("page").Parse(
		`{{icache "top-rated" "movies"}}<ol>{{range .TopRated icachectx}}<li>{{.}}</li>{{end}}</ol>{{endicache}}
`)).Cache(cache)

	ctx, movies := context.Background(), new(Movies)
	show := func() {
		if err := page.ExecuteContext(ctx, os.Stdout, movies); err != nil {
			log.Fatal(err)
		}
	}
	show()
	show()
	fmt.Println(movies.queries, "query")

	// The agent does this when the table changes.
	if err := cache.Incr(ctx, "movies"); err != nil {
		log.Fatal(err)
	}
	show()
	fmt.Println(movies.queries, "queries")
	// Output:
	// <ol><li>Stalker</li><li>Ran &amp; friends</li></ol>
	// <ol><li>Stalker</li><li>Ran &amp; friends</li></ol>
	// 1 query
	// <ol><li>Stalker</li><li>Ran &amp; friends</li></ol>
	// 2 queries
}

// Blocks inside of blocks: a changed row renders itself and what is around it;
// the other rows come from the cache.
func Example_nested() {
	cache, stop := exampleCache()
	defer stop()
	page := template.Must(template.New("page").Parse(
		`{{icache "list" "movies"}}{{range .}}{{icache "row" (printf "movie:%d" .ID)}}[{{.Title}}]{{endicache}}{{end}}{{endicache}}
`)).Cache(cache)

	ctx := tmpl.WithObserver(context.Background(), func(_ context.Context, e tmpl.Event) {
		fmt.Print(e.Name, " ", e.Outcome, "; ")
	})
	type movie struct {
		ID    int
		Title string
	}
	movies := []movie{{1, "Ran"}, {2, "Stalker"}}
	for _, change := range []string{"nothing", "nothing", "movie:2"} {
		if err := cache.Incr(ctx, change); err != nil {
			log.Fatal(err)
		}
		if change == "movie:2" {
			movies[1].Title = "Solaris"
		}
		if err := page.ExecuteContext(ctx, os.Stdout, movies); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// row miss; row miss; list miss; [Ran][Stalker]
	// list hit; [Ran][Stalker]
	// row hit; row miss; list miss; [Ran][Solaris]
}

// An argument that is no token: one entry per language.
func Example_vary() {
	cache, stop := exampleCache()
	defer stop()
	page := template.Must(template.New("page").Parse(
		`{{icache "greeting" "texts" (vary .Lang)}}<p lang="{{.Lang}}">{{.Text}}</p>{{endicache}}
`)).Cache(cache)
	for _, data := range []map[string]string{
		{"Lang": "en", "Text": "Hello"}, {"Lang": "de", "Text": "Hallo"}, {"Lang": "en", "Text": "not rendered"},
	} {
		if err := page.Execute(os.Stdout, data); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// <p lang="en">Hello</p>
	// <p lang="de">Hallo</p>
	// <p lang="en">Hello</p>
}
