package icache

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Stale, every interleaving: a fragment, another around it, and four kinds of
// callers, two of them at a time, twice each. One token, whose value is the tick of its latest
// increment, is enough. What a strict caller gets must be as fresh as ever,
// whatever the others allow themselves; what a caller with Stale gets may only
// lack commits if the latest increment is at most staleTicks ago.

type staleDesign struct {
	stored  bool // mistake: what is around a stale fragment is stored
	shared  bool // mistake: the stale fragment of one who leads is given to those who wait
	noBound bool // mistake: any age will do
	late    bool // mistake: who computes in the background stores under the version of that moment
}

const (
	staleTicks   = 1
	staleNow     = 4
	staleCommits = 2
)

// The callers.
const (
	strictInner = iota
	staleInner
	strictOuter // whose computation gets the inner one with Stale
	staleLeader // waits for another process's lease with Stale; others wait for it
	staleCallers
)

type staleWorld struct {
	now, db, tok, wpc  uint8
	acked              uint8
	ver, data          uint8 // inner, stored
	outerVer, outerD   uint8 // outer, stored
	background         uint8 // a computation in the background: version + 1
	backgroundData     uint8 // what it has read + 1
	flight, flightData uint8 // of staleLeader: version + 1, what it has given + 1
	calls              [staleCallers]staleCall
}

type staleCall struct {
	pc, left, lb, v, d uint8
	stale              bool // d is
}

func (d staleDesign) step(w staleWorld, add func(staleWorld)) (bad string) {
	try := func(may bool, change func(n *staleWorld)) {
		if may {
			n := w
			change(&n)
			add(n)
		}
	}
	try(w.now < staleNow, func(n *staleWorld) { n.now++ })
	switch w.wpc % 3 {
	case 0:
		try(w.wpc < 3*staleCommits, func(n *staleWorld) { n.db++; n.wpc++ })
	case 1:
		try(true, func(n *staleWorld) { n.tok = max(w.tok+1, w.now); n.wpc++ })
	case 2:
		try(true, func(n *staleWorld) { n.acked = w.db; n.wpc++ })
	}
	switch {
	case w.background == 0:
	case w.backgroundData == 0:
		try(true, func(n *staleWorld) { n.backgroundData = w.db + 1 })
	default:
		try(true, func(n *staleWorld) {
			n.ver, n.data = w.background-1, w.backgroundData-1
			if d.late {
				n.ver = w.tok
			}
			n.background, n.backgroundData = 0, 0
		})
	}
	for i := range w.calls {
		if bad = d.call(w, i, try); bad != "" {
			return bad
		}
	}
	return ""
}

// mayServe is what staleWithin decides with the tokens just read.
func (d staleDesign) mayServe(w *staleWorld, v uint8) bool {
	return w.ver != v && (d.noBound || w.now <= v+staleTicks)
}

func (d staleDesign) call(w staleWorld, i int, try func(bool, func(*staleWorld))) (bad string) {
	c := w.calls[i]
	set := func(change func(n *staleWorld, c *staleCall)) {
		try(true, func(n *staleWorld) { change(n, &n.calls[i]) })
	}
	done := func(data uint8, strict bool) {
		if data < c.lb && (strict || w.now > w.tok+staleTicks && w.now > c.v+staleTicks) {
			bad = map[bool]string{true: "a strict caller got old data", false: "older than the bound"}[strict]
		}
		set(func(_ *staleWorld, c *staleCall) { *c = staleCall{left: c.left} })
	}
	const (
		idle = iota
		token
		look
		wait
		compute
		store
		outerLook
		outerInner
		outerStore
	)
	switch c.pc {
	case idle:
		if c.left > 0 {
			set(func(_ *staleWorld, c *staleCall) { *c = staleCall{pc: token, left: c.left - 1, lb: w.acked} })
		}
	case token:
		set(func(_ *staleWorld, c *staleCall) {
			c.v, c.pc = w.tok, look
			if i == strictOuter {
				c.pc = outerLook
			}
		})
	case look:
		switch {
		case w.ver == c.v:
			done(w.data, true)
		case i == strictInner && w.flight == c.v+1:
			set(func(_ *staleWorld, c *staleCall) { c.pc = wait })
		case i == strictInner:
			set(func(_ *staleWorld, c *staleCall) { c.pc = compute })
		case i == staleLeader: // leads, and then finds that another process has the lease
			set(func(n *staleWorld, c *staleCall) {
				n.flight, n.flightData = c.v+1, 0
				c.pc = wait
			})
		case d.mayServe(&w, c.v):
			try(w.background == 0, func(n *staleWorld) { n.background = c.v + 1 })
			done(w.data, false)
		default:
			set(func(_ *staleWorld, c *staleCall) { c.pc = compute })
		}
	case wait:
		if i == staleLeader {
			if d.mayServe(&w, c.v) {
				try(true, func(n *staleWorld) {
					n.flight = 0
					if d.shared {
						n.flightData = w.data + 1
					}
					n.calls[i] = staleCall{left: c.left}
				})
			} else {
				set(func(_ *staleWorld, c *staleCall) { c.pc = compute })
			}
			return bad
		}
		if w.flightData != 0 {
			done(w.flightData-1, true)
			return bad
		}
		try(w.flight != c.v+1, func(n *staleWorld) { n.calls[i].pc = compute })
	case compute:
		set(func(_ *staleWorld, c *staleCall) { c.d, c.pc = w.db, store })
	case store:
		if c.d < c.lb {
			return "computed old data"
		}
		try(true, func(n *staleWorld) {
			n.ver, n.data = c.v, c.d
			if i == staleLeader {
				n.flight, n.flightData = 0, c.d+1
			}
			n.calls[i] = staleCall{left: c.left}
		})
	case outerLook:
		if w.outerVer == c.v {
			done(w.outerD, true)
			return bad
		}
		set(func(_ *staleWorld, c *staleCall) { c.pc = outerInner })
	case outerInner: // the inner one, with Stale, or the data
		switch {
		case w.ver == w.tok:
			set(func(_ *staleWorld, c *staleCall) { c.d, c.pc = w.data, outerStore })
		case d.mayServe(&w, w.tok):
			set(func(_ *staleWorld, c *staleCall) { c.d, c.stale, c.pc = w.data, true, outerStore })
		default:
			set(func(_ *staleWorld, c *staleCall) { c.d, c.pc = w.db, outerStore })
		}
	case outerStore: // whose own result may be stale: its computation said so
		try(true, func(n *staleWorld) {
			if !c.stale || d.stored {
				n.outerVer, n.outerD = c.v, c.d
			}
			n.calls[i] = staleCall{left: c.left}
		})
	}
	return bad
}

// run tries every pair of callers.
func (d staleDesign) run() (bad string, states int) {
	for a := range staleCallers {
		for b := range a {
			var n int
			if bad, n = d.pair(a, b); bad != "" {
				return bad, states + n
			}
			states += n
		}
	}
	return "", states
}

func (d staleDesign) pair(a, b int) (bad string, states int) {
	var start staleWorld
	start.now, start.tok, start.ver = 1, 1, 1
	start.calls[a].left, start.calls[b].left = 2, 2
	seen := map[staleWorld]struct{}{start: {}}
	queue := []staleWorld{start}
	for len(queue) > 0 && bad == "" {
		w := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		bad = d.step(w, func(n staleWorld) {
			if _, ok := seen[n]; !ok {
				seen[n] = struct{}{}
				queue = append(queue, n)
			}
		})
	}
	return bad, len(seen)
}

func TestModelStale(t *testing.T) {
	t.Parallel()
	bad, n := staleDesign{}.run()
	require.Empty(t, bad)
	t.Logf("%d states", n)
}

func TestModelStaleFindsMistakes(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]staleDesign{
		"what is around a stale fragment is stored":   {stored: true},
		"a stale fragment is given to those who wait": {shared: true},
		"no bound": {noBound: true},
		"the background stores under a later version": {late: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, n := d.run()
			require.NotEmpty(t, bad, "not found in %d states", n)
			t.Logf("found after %d states: %s", n, bad)
		})
	}
}
