package agent

import (
	"sync"
	"time"
)

// recentTokens remembers which tokens were bumped within the replay window: a
// Redis that fails over or restarts may have lost what it acknowledged last,
// because its replication and its append-only file are asynchronous. The agent
// then bumps them again.
type recentTokens struct {
	window time.Duration
	max    int // past it only the fact is kept, and the generation is bumped instead

	mu   sync.Mutex
	gens []recentSlice // oldest first
	n    int
	lost time.Time // when the bound last made us forget; zero: never
}

type recentSlice struct {
	at     time.Time
	tokens map[string]struct{}
}

const recentStep = 4 // the window is kept in so many slices

func newRecentTokens(window time.Duration, limit int) *recentTokens {
	return &recentTokens{window: window, max: limit}
}

func (r *recentTokens) add(at time.Time, tokens []string) {
	if r.window <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(at)
	last := len(r.gens) - 1
	if last < 0 || at.Sub(r.gens[last].at) > r.window/recentStep {
		r.gens = append(r.gens, recentSlice{at: at, tokens: make(map[string]struct{})})
		last++
	}
	set := r.gens[last].tokens
	for _, t := range tokens {
		if r.n >= r.max {
			r.lost = at
			return
		}
		if _, dup := set[t]; !dup {
			set[t] = struct{}{}
			r.n++
		}
	}
}

// everything notes that everything was bumped, which cannot be remembered as tokens.
func (r *recentTokens) everything(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = at
}

// expire drops slices whose every token is older than the window.
func (r *recentTokens) expire(now time.Time) {
	for len(r.gens) > 0 && now.Sub(r.gens[0].at) > r.window+r.window/recentStep {
		r.n -= len(r.gens[0].tokens)
		r.gens[0].tokens = nil
		r.gens = r.gens[1:]
	}
}

// snapshot returns the tokens bumped since now - window; complete is false if
// there were more than could be remembered.
func (r *recentTokens) snapshot(now time.Time) (tokens []string, complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	seen := make(map[string]struct{}, r.n)
	for _, g := range r.gens {
		for t := range g.tokens {
			if _, dup := seen[t]; !dup {
				seen[t] = struct{}{}
				tokens = append(tokens, t)
			}
		}
	}
	return tokens, r.lost.IsZero() || now.Sub(r.lost) > r.window+r.window/recentStep
}
