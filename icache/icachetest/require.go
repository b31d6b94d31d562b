package icachetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/icache-go/icache-agent/icache"
)

// arrival is how long a change may take that an agent has to notice.
const arrival = 5 * time.Second

// RequireHit runs load, which is a part of the program that uses the cache, and
// fails the test unless everything that load fetched came from the cache.
func RequireHit(tb testing.TB, cache *icache.Cache, load func() error) {
	tb.Helper()
	if events := fetched(tb, cache, load); !served(events) {
		tb.Fatalf("icachetest: computed what should have been cached:%s", describe(events))
	}
}

// RequireMiss runs load and fails the test if everything that it fetched came
// from the cache: something must have been computed.
func RequireMiss(tb testing.TB, cache *icache.Cache, load func() error) {
	tb.Helper()
	if events := fetched(tb, cache, load); served(events) {
		tb.Fatalf("icachetest: cached what should have been computed:%s", describe(events))
	}
}

// RequireDependsOn runs load and fails the test unless each of the tokens is
// one that something depends on which load has fetched. An increment of the
// token outdates that.
func RequireDependsOn(tb testing.TB, cache *icache.Cache, load func() error, tokens ...string) {
	tb.Helper()
	events := fetched(tb, cache, load)
	for _, token := range tokens {
		if !slices.ContainsFunc(events, func(e icache.Event) bool { return slices.Contains(e.Tokens, token) }) {
			tb.Fatalf("icachetest: nothing depends on %q:%s", token, describe(events))
		}
	}
}

// RequireInvalidates fails the test unless change outdates each of the
// fragments. A fragment is given as a part of the program that fetches it. It
// is run twice before the change, because a fragment that is not cached in the
// first place cannot be outdated, and not at all after. The tokens may be
// incremented by change itself or, within five seconds, by an icache-agent.
func RequireInvalidates(tb testing.TB, cache *icache.Cache, change func() error, fragments ...func() error) {
	tb.Helper()
	before := warm(tb, cache, fragments)
	run(tb, cache, "change", change)
	deadline := time.Now().Add(arrival)
	for i, events := range before {
		for !outdated(tb, cache, events) {
			if time.Now().After(deadline) {
				tb.Fatalf("icachetest: the change does not outdate fragment %d:%s\n\tincremented: %q",
					i, describe(events), Incremented(tb, cache))
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// RequireKeeps fails the test if change outdates any of the fragments: the
// opposite of [RequireInvalidates], against tokens that are too coarse. It
// looks once, as soon as change returns, and so it proves nothing about what an
// agent may increment later.
func RequireKeeps(tb testing.TB, cache *icache.Cache, change func() error, fragments ...func() error) {
	tb.Helper()
	before := warm(tb, cache, fragments)
	run(tb, cache, "change", change)
	for i, events := range before {
		if outdated(tb, cache, events) {
			tb.Fatalf("icachetest: the change outdates fragment %d:%s\n\tincremented: %q",
				i, describe(events), Incremented(tb, cache))
			return
		}
	}
}

// warm runs each fragment until it comes from the cache, and returns the events
// of that.
func warm(tb testing.TB, cache *icache.Cache, fragments []func() error) [][]icache.Event {
	tb.Helper()
	if len(fragments) == 0 {
		tb.Fatal("icachetest: no fragments given")
		return nil
	}
	hits := make([][]icache.Event, len(fragments))
	for i, load := range fragments {
		fetched(tb, cache, load)
		if hits[i] = fetched(tb, cache, load); !served(hits[i]) {
			tb.Fatalf("icachetest: fragment %d is not cached when it is fetched again:%s", i, describe(hits[i]))
			return nil
		}
	}
	return hits
}

// outdated reports whether a token of any of the events has been incremented
// since.
func outdated(tb testing.TB, cache *icache.Cache, events []icache.Event) bool {
	tb.Helper()
	for _, e := range events {
		values, err := cache.Values(context.Background(), e.Tokens...)
		if err != nil {
			tb.Fatalf("icachetest: read tokens: %v", err)
			return false
		}
		var sum icache.Version
		for _, v := range values {
			sum += icache.Version(v)
		}
		if sum != e.Version {
			return true
		}
	}
	return false
}

// fetched runs load and returns what it fetched.
func fetched(tb testing.TB, cache *icache.Cache, load func() error) []icache.Event {
	tb.Helper()
	events := run(tb, cache, "load", load)
	if len(events) == 0 {
		tb.Fatal("icachetest: load has fetched nothing from this cache")
	}
	return events
}

// run runs a function of the test and returns what it fetched.
func run(tb testing.TB, cache *icache.Cache, what string, fn func() error) []icache.Event {
	tb.Helper()
	r := recorderOf(tb, cache)
	mark := r.mark()
	if err := fn(); err != nil {
		tb.Fatalf("icachetest: %s: %v", what, err)
	}
	return r.since(mark)
}

// served reports whether nothing had to be computed.
func served(events []icache.Event) bool {
	return !slices.ContainsFunc(events, func(e icache.Event) bool { return !e.Outcome.Served() })
}
