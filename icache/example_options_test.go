package icache_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
)

func ExampleVary() {
	c, stop := newCache()
	defer stop()
	for _, lang := range []string{"en", "de", "en"} {
		title, _ := icache.Fetch(context.Background(), c, "headline", []string{"movies"},
			func(context.Context) (string, error) {
				fmt.Println("rendering", lang)
				return map[string]string{"en": "Movies", "de": "Filme"}[lang], nil
			}, icache.Vary(lang))
		fmt.Println(title)
	}
	// Output:
	// rendering en
	// Movies
	// rendering de
	// Filme
	// Movies
}

// Whoever comes first after a change gets the old page at once, and a new one
// is made meanwhile.
func ExampleStale() {
	c, stop := newCache()
	defer stop()
	ctx := context.Background()
	edition, made := 0, make(chan bool, 10)
	page := func() string {
		html, _ := icache.Fetch(ctx, c, "front", []string{"news"}, func(context.Context) (string, error) {
			edition++
			defer func() { made <- true }()
			return fmt.Sprint("edition ", edition), nil
		}, icache.Stale(time.Minute))
		return html
	}
	fmt.Println(page())
	<-made
	_ = c.Incr(ctx, "news")
	fmt.Println(page())
	<-made
	_ = c.Close() // waits until the new one is stored
	fmt.Println(page())
	// Output:
	// edition 1
	// edition 1
	// edition 2
}

// A search that finds nothing is kept for a minute, everything else until a
// movie changes.
func ExampleSetTTL() {
	c, stop := newCache()
	defer stop()
	found, _ := icache.Fetch(context.Background(), c, "search", []string{"movies"},
		func(ctx context.Context) ([]string, error) {
			var titles []string // … from the database
			if len(titles) == 0 {
				icache.SetTTL(ctx, time.Minute)
			}
			return titles, nil
		}, icache.Vary("tarkovski"))
	fmt.Println(len(found))
	// Output: 0
}

// A page is shown all the same when a part of it fails, but not kept.
func ExampleNoStore() {
	c, stop := newCache()
	defer stop()
	for range 2 {
		html, _ := icache.Fetch(context.Background(), c, "page", []string{"movies"},
			func(ctx context.Context) (string, error) {
				fmt.Println("rendering")
				icache.NoStore(ctx) // the service for recommendations is down
				return "<h1>Movies</h1>", nil
			})
		fmt.Println(html)
	}
	// Output:
	// rendering
	// <h1>Movies</h1>
	// rendering
	// <h1>Movies</h1>
}

// Every hit is checked in Redis and served from this process.
func ExampleWithPayloadCache() {
	c, stop := newCache(icache.WithPayloadCache(64 << 20))
	defer stop()
	for range 2 {
		_, _ = icache.Fetch(context.Background(), c, "page", []string{"movies"},
			func(context.Context) (string, error) { return "<h1>Movies</h1>", nil })
	}
	fmt.Println(c.Stats().LocalHits)
	// Output: 1
}

// gobCodec is encoding/gob as a codec.
type gobCodec struct{}

func (gobCodec) ID() byte { return 64 }

func (gobCodec) Append(dst []byte, v any) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	err := gob.NewEncoder(b).Encode(v)
	return b.Bytes(), err
}

func (gobCodec) Decode(src []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(src)).Decode(v)
}

func ExampleWithCodec() {
	c, stop := newCache(icache.WithDefaults(icache.WithCodec(gobCodec{})))
	defer stop()
	for range 2 {
		movie, err := icache.Fetch(context.Background(), c, "movie", []string{"movie:42"},
			func(ctx context.Context) (Movie, error) { return loadMovie(ctx, 42) })
		fmt.Println(movie.Title, err)
	}
	// Output:
	// reading movie 42
	// Stalker <nil>
	// Stalker <nil>
}

// Hits from the memory of this process, at most a second behind; and none at
// all while the agent is gone for longer than its lease and ten seconds.
func ExampleWithTracking() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	c, err := icache.New(rdb,
		icache.WithTracking(time.Second),
		icache.WithPayloadCache(64<<20),
		icache.WithGuard(icache.GuardServe(10*time.Second)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
}
