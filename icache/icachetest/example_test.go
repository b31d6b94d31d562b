package icachetest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icachetest"
)

// Shop is the program under test.
type Shop struct {
	cache *icache.Cache
	title string
}

// Page is cached, and depends on the movie that it shows.
func (s *Shop) Page(ctx context.Context) (string, error) {
	return icache.Fetch(ctx, s.cache, "page", []string{"movie:42"}, func(context.Context) (string, error) {
		return "<h1>" + s.title + "</h1>", nil
	})
}

// Rename changes the movie.
func (s *Shop) Rename(ctx context.Context, title string) error {
	s.title = title
	return s.cache.Incr(ctx, "movie:42")
}

// exampleT stands for the *testing.T of a test, which an example has not got.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()             {}
func (t *exampleT) Logf(string, ...any) {}
func (t *exampleT) Cleanup(f func())    { t.cleanups = append(t.cleanups, f) }

func (t *exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (t *exampleT) end() {
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}

func Example() {
	t := new(exampleT) // in a test: t *testing.T
	defer t.end()
	ctx := context.Background()

	cache := icachetest.New(t)
	shop := &Shop{cache: cache, title: "Stalker"}
	page := func() error {
		_, err := shop.Page(ctx)
		return err
	}
	rename := func() error { return shop.Rename(ctx, "Solaris") }

	icachetest.RequireMiss(t, cache, page)
	icachetest.RequireHit(t, cache, page)
	icachetest.RequireDependsOn(t, cache, page, "movie:42")
	icachetest.RequireInvalidates(t, cache, rename, page)
	icachetest.RequireKeeps(t, cache, func() error { return cache.Incr(ctx, "movie:43") }, page)
	fmt.Println(icachetest.Incremented(t, cache))
	// Output: [movie:42 movie:43]
}

func ExampleEvents() {
	t := new(exampleT) // in a test: t *testing.T
	defer t.end()

	cache := icachetest.New(t)
	shop := &Shop{cache: cache, title: "Stalker"}
	for range 2 {
		_, _ = shop.Page(context.Background())
	}
	for _, e := range icachetest.Events(t, cache) {
		fmt.Println(e.Key, e.Outcome, e.Tokens)
	}
	// Output:
	// page miss [* movie:* movie:42]
	// page hit [* movie:* movie:42]
}
