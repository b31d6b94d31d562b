package icache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
)

// Movie is a row of the examples' database.
type Movie struct {
	ID    int
	Title string
}

var titles = map[int]string{42: "Stalker", 43: "Solaris"}

func loadMovie(_ context.Context, id int) (Movie, error) {
	fmt.Println("reading movie", id)
	return Movie{id, titles[id]}, nil
}

// open stands for redis.NewClient(&redis.Options{Addr: "localhost:6379"}): the
// examples bring a small Redis of their own.
func open() (redis.UniversalClient, func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	return rdb, func() {
		_ = rdb.Close()
		server.Close()
	}
}

func newCache(opts ...icache.Option) (*icache.Cache, func()) {
	rdb, stop := open()
	c, err := icache.New(rdb, opts...)
	if err != nil {
		panic(err)
	}
	return c, stop
}

func Example() {
	ctx := context.Background()
	rdb, stop := open()
	defer stop()

	c, err := icache.New(rdb)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	show := func() {
		movie, err := icache.Fetch(ctx, c, "movie", []string{"movie:42"},
			func(ctx context.Context) (Movie, error) { return loadMovie(ctx, 42) })
		fmt.Println(movie.Title, err)
	}
	show()
	show()

	// The agent does this for every change in the database.
	titles[42] = "Сталкер"
	_ = c.Incr(ctx, "movie:42")
	show()
	titles[42] = "Stalker"
	// Output:
	// reading movie 42
	// Stalker <nil>
	// Stalker <nil>
	// reading movie 42
	// Сталкер <nil>
}

func ExampleFetch() {
	c, stop := newCache()
	defer stop()
	ctx := context.Background()
	for range 2 {
		html, err := icache.Fetch(ctx, c, "top-movies", []string{"movies", "ratings"},
			func(context.Context) (string, error) {
				fmt.Println("rendering")
				return "<ol>…</ol>", nil
			}, icache.Vary("en"))
		fmt.Println(html, err)
	}
	// Output:
	// rendering
	// <ol>…</ol> <nil>
	// <ol>…</ol> <nil>
}

// What is not there can be cached too: with a type that says so.
func ExampleFetch_negativeResult() {
	c, stop := newCache()
	defer stop()
	for range 2 {
		movie, err := icache.Fetch(context.Background(), c, "movie", []string{"movie:7"},
			func(context.Context) (*Movie, error) {
				fmt.Println("no such row")
				return nil, nil
			})
		fmt.Println(movie, err)
	}
	// Output:
	// no such row
	// <nil> <nil>
	// <nil> <nil>
}

func ExampleFetchMany() {
	c, stop := newCache()
	defer stop()
	ctx := context.Background()
	ids := []int{42, 43}
	var reqs []icache.Request
	for _, id := range ids {
		reqs = append(reqs, icache.Request{Key: "title", Tokens: []string{fmt.Sprint("movie:", id)}})
	}
	show := func() {
		found, err := icache.FetchMany(ctx, c, reqs, func(_ context.Context, missing []int) ([]string, error) {
			var out []string
			for _, i := range missing {
				fmt.Println("reading movie", ids[i])
				out = append(out, titles[ids[i]])
			}
			return out, nil
		})
		fmt.Println(found, err)
	}
	show()
	_ = c.Incr(ctx, "movie:43")
	show()
	// Output:
	// reading movie 42
	// reading movie 43
	// [Stalker Solaris] <nil>
	// reading movie 43
	// [Stalker Solaris] <nil>
}

// A repository function says what it reads; every fragment around it depends
// on that by itself.
func ExampleDepend() {
	c, stop := newCache()
	defer stop()
	ctx := context.Background()
	title := func(ctx context.Context, id int) string {
		icache.Depend(ctx, fmt.Sprint("movie:", id)) // before reading
		return titles[id]
	}
	page := func() {
		html, _ := icache.Fetch(ctx, c, "page", nil, func(ctx context.Context) (string, error) {
			fmt.Println("rendering")
			return title(ctx, 42) + ", " + title(ctx, 43), nil
		})
		fmt.Println(html)
	}
	page()
	page()
	_ = c.Incr(ctx, "movie:43")
	page()
	// Output:
	// rendering
	// Stalker, Solaris
	// Stalker, Solaris
	// rendering
	// Stalker, Solaris
}

func ExampleCache_GetSum() {
	c, stop := newCache()
	defer stop()
	ctx := context.Background()

	version, _ := c.GetSum(ctx, "movies", "movie:42") // before reading the data
	_ = c.SetVersioned(ctx, "page", version, []byte("<h1>Stalker</h1>"))

	version, _ = c.GetSum(ctx, "movies", "movie:42")
	page, err := c.GetVersioned(ctx, "page", version)
	fmt.Println(string(page), err)

	_ = c.Incr(ctx, "movie:42")
	version, _ = c.GetSum(ctx, "movies", "movie:42")
	_, err = c.GetVersioned(ctx, "page", version)
	fmt.Println(errors.Is(err, icache.ErrMiss))
	// Output:
	// <h1>Stalker</h1> <nil>
	// true
}

func ExampleCache_IncrMany() {
	c, stop := newCache()
	defer stop()
	ctx := context.Background()
	tokens := []string{"movies", "movie:42", "movie:43"}
	for {
		err := c.IncrMany(ctx, tokens)
		var failed *icache.IncrError
		if !errors.As(err, &failed) {
			break
		}
		tokens = failed.Tokens // these are not acknowledged: once more
		time.Sleep(100 * time.Millisecond)
	}
	values, _ := c.Values(ctx, "movie:42", "movie:44")
	fmt.Println(len(values))
	// Output: 1
}

func ExampleCache_WriteTo() {
	c, stop := newCache()
	defer stop()
	for range 2 {
		err := c.WriteTo(context.Background(), os.Stdout, "list", []string{"movies"},
			func(_ context.Context, w io.Writer) error {
				_, err := fmt.Fprintln(w, "<li>Stalker")
				return err
			})
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// <li>Stalker
	// <li>Stalker
}

// Begin is for code that cannot be put into a function, such as a template
// engine.
func ExampleCache_Begin() {
	c, stop := newCache()
	defer stop()
	for range 2 {
		f, err := c.Begin(context.Background(), "block", []string{"movies"})
		if err != nil {
			fmt.Println(err)
			return
		}
		if !f.Hit() {
			f.Commit([]byte("<b>rendered</b>")) // with f.Context()
		}
		fmt.Println(f.Event().Outcome, string(f.Bytes()))
	}
	// Output:
	// miss <b>rendered</b>
	// hit <b>rendered</b>
}

func ExampleBypass() {
	c, stop := newCache()
	defer stop()
	// Inside a transaction that has written, nothing is read from the cache
	// and nothing is stored that might be rolled back.
	ctx := icache.Bypass(context.Background())
	title, _ := icache.Fetch(ctx, c, "title", []string{"movie:42"},
		func(context.Context) (string, error) { return "not committed yet", nil })
	fmt.Println(title)
	// Output: not committed yet
}

func ExamplePin() {
	c, stop := newCache()
	defer stop()
	// One request reads each token once, here all of them in one round trip.
	ctx := icache.Pin(context.Background())
	if err := c.Prefetch(ctx, "movies", "movie:42", "movie:43"); err != nil {
		fmt.Println(err)
	}
	for _, id := range []int{42, 43} {
		title, _ := icache.Fetch(ctx, c, "title", []string{fmt.Sprint("movie:", id)},
			func(context.Context) (string, error) { return titles[id], nil })
		fmt.Println(title)
	}
	// Output:
	// Stalker
	// Solaris
}

func ExampleWithHooks() {
	c, stop := newCache(icache.WithHooks(icache.Hooks{
		Fetch: func(_ context.Context, e icache.Event) {
			fmt.Println(e.Key, e.Outcome, e.Why, strings.Join(e.Tokens, " "))
		},
	}))
	defer stop()
	for range 2 {
		_, _ = icache.Fetch(context.Background(), c, "title", []string{"movie:42"},
			func(context.Context) (string, error) { return "Stalker", nil })
	}
	// Output:
	// title miss absent * movie:* movie:42
	// title hit  * movie:* movie:42
}

func ExampleHashToken() {
	fmt.Println("user:" + icache.HashToken("alice@example.com"))
	// Output: user:ff8d9819fc0e12bf0d24892e45987e24
}

func ExampleGroup() {
	fmt.Println(icache.Group("movie:42"))
	fmt.Println(icache.Group("movies"))
	// Output:
	// movie:* true
	//  false
}
