package icache

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The protocol, small enough to try every interleaving: two rows with a token
// each, two commits, two readers with some requests each of one fragment that
// is made of both rows, and some losses of tokens. Reading a token, creating
// it, reading the fragment, reading a row, storing, committing, incrementing
// and acknowledging are one step each. Values of tokens grow by as little as
// the protocol allows, so that sums collide where they can.
//
// The designs that must hold are the ones of this package. The others are
// known mistakes; a checker that does not find them would prove nothing.

// ICACHE_MODEL=full tries more requests and losses; it takes some minutes.

type design struct {
	bump         bumpKind
	readersSeed  bool // absent tokens are created; otherwise they count 0
	versionLate  bool // mistake: the version is read after the data
	bumpFirst    bool // mistake: the increment comes before the commit
	flight       flightKind
	dynamic      bool // the second token is found while computing (Depend)
	dependLate   bool // mistake: Depend comes after the data were read
	followBlind  bool // mistake: a follower takes tokens found on the way for unchanged
	clockMayStep bool // mistake: a created token may get a value it has had
	memo         bool // the second token is read with the fragment, at one moment (MGET)
	memoTorn     bool // mistake: it is read before the fragment (a pipeline on a Cluster)
	losses       uint8
	requests     [2]uint8 // of each reader

	pin         bool // the requests of the first reader are under one Pin, which has read both tokens
	pinKept     bool // mistake: the Pin is used for requests after its own
	pinExtra    bool // mistake: tokens found on the way are taken from the Pin too, not read with the fragment
	lease       bool // readers are in different processes, and share a lease
	lapses      uint8
	leaseBlind  bool // mistake: a lease by name, and who waits for it takes what is there then
	leaseFences bool // mistake: who has the lease stores under the version of that moment, as nobody else can
	leaseNotNX  bool // mistake: the lease is taken from whoever has it
}

type bumpKind uint8

const (
	bumpFresh  bumpKind = iota // max(v+1, now), creating
	bumpExists                 // the same, but only if it exists
	bumpUnlink                 // when Redis is full
	bumpIncr                   // plain INCR
	bumpLegacy                 // INCR, but the first stores 0
)

type flightKind uint8

const (
	flightNone flightKind = iota
	flightByVersion
	flightByName
)

const absent = 0 // tokens start at 1; a legacy token with value 0 is stored as legacyZero
const legacyZero = 255

type reader struct {
	pc       uint8
	left     uint8    // requests still to come
	lb       [2]uint8 // commits that were acknowledged when the request began
	v        [2]uint8 // token values read before the data
	d        [2]uint8 // data
	follows  bool     // waits for the other's computation
	leads    bool
	served   bool     // the leader's result is there
	seenOnce bool     // a token was seen absent and is to be created
	pin      [2]uint8 // values
	pinned   bool     // has one
	fromPin  bool     // v is from the Pin
	pinLB    [2]uint8 // commits that were acknowledged when it was made
	saw      uint8    // version of the stored fragment when it began to wait for a lease
}

type world struct {
	db, acked, tok, top [2]uint8 // top: the highest value a token has had
	stored, storedExtra bool
	ver                 uint8
	data                [2]uint8
	wpc                 [2]uint8
	wrow                [2]uint8
	losses              uint8
	r                   [2]reader
	flightVer           [2]uint8 // of what each reader leads
	leased              [2]uint8 // version of the lease that each reader has got, 0 if it is gone
	lapses              uint8
}

// The program of a request. Steps that do not apply are passed over.
const (
	rIdle = iota
	rToken0
	rToken1
	rFragment
	rExtra
	rFlight
	rData0
	rDepend
	rData1
	rLate0
	rLate1
	rStore
	rWait
	rValidate
	rPeek
	rPrefetch
	rLease
)

func value(tok uint8) uint8 {
	if tok == legacyZero {
		return 0
	}
	return tok
}

type checker struct {
	d       design
	seen    map[world]struct{}
	queue   []world
	parent  map[world]world // only while small, for the trace
	bad     string
	badPath []string
}

const traceStates = 300_000

func (c *checker) add(from, to world) {
	if _, ok := c.seen[to]; ok {
		return
	}
	c.seen[to] = struct{}{}
	if len(c.seen) < traceStates {
		c.parent[to] = from
	}
	c.queue = append(c.queue, to)
}

// run explores everything and returns the number of states.
func (c *checker) run() int {
	c.seen = make(map[world]struct{})
	c.parent = make(map[world]world)
	for _, rows := range [][2]uint8{{0, 0}, {0, 1}} {
		var w world
		w.wrow = rows
		w.losses, w.lapses = c.d.losses, c.d.lapses
		for i := range w.r {
			w.r[i].left = c.d.requests[i]
		}
		c.add(w, w)
	}
	for len(c.queue) > 0 && c.bad == "" {
		w := c.queue[len(c.queue)-1]
		if len(c.seen) < traceStates { // breadth first while it matters for the trace
			w = c.queue[0]
			c.queue = c.queue[1:]
		} else {
			c.queue = c.queue[:len(c.queue)-1]
		}
		c.step(w)
	}
	return len(c.seen)
}

func (c *checker) step(w world) {
	for i := range w.wpc {
		c.writer(w, i)
	}
	for i := range w.r {
		c.reader(w, i)
		if c.bad != "" {
			c.fail(w)
			return
		}
	}
	for i := range w.leased {
		if w.leased[i] != 0 && w.lapses > 0 {
			n := w
			n.leased[i] = 0
			n.lapses--
			c.add(w, n)
		}
	}
	if c.d.lease && c.d.lapses == 0 && w.r[0].computes() && w.r[1].computes() && w.flightVer[0] == w.flightVer[1] {
		c.bad = "two processes compute the same version"
		c.fail(w)
		return
	}
	if w.losses > 0 {
		for i := range w.tok {
			if w.tok[i] != absent {
				n := w
				n.tok[i] = absent
				n.losses--
				c.add(w, n)
			}
		}
	}
}

func (r reader) computes() bool { return r.leads && r.pc >= rData0 && r.pc <= rStore }

func (c *checker) fail(w world) {
	for {
		c.badPath = append(c.badPath, fmt.Sprintf("%+v", w))
		p, ok := c.parent[w]
		if !ok || p == w {
			return
		}
		w = p
	}
}

// writer commits, increments, and is acknowledged.
func (c *checker) writer(w world, i int) {
	row := w.wrow[i]
	commit := func(n *world) { n.db[row]++ }
	bumpNow := w.wpc[i] == 1
	if c.d.bumpFirst {
		bumpNow = w.wpc[i] == 0
	}
	switch {
	case w.wpc[i] > 2:
	case w.wpc[i] == 2:
		n := w
		n.acked[row]++
		n.wpc[i]++
		c.add(w, n)
	case bumpNow:
		n := w
		c.bumps(&n, row)
		n.wpc[i]++
		c.add(w, n)
	default:
		n := w
		commit(&n)
		n.wpc[i]++
		c.add(w, n)
	}
}

func (c *checker) bumps(n *world, row uint8) {
	set := func(v uint8) {
		n.tok[row] = v
		n.top[row] = max(n.top[row], v)
	}
	switch c.d.bump {
	case bumpFresh:
		set(n.top[row] + 1)
	case bumpExists:
		if n.tok[row] != absent {
			set(n.top[row] + 1)
		}
	case bumpUnlink:
		n.tok[row] = absent
	case bumpIncr:
		n.tok[row]++
		n.top[row] = max(n.top[row], n.tok[row])
	case bumpLegacy:
		switch n.tok[row] {
		case absent:
			n.tok[row] = legacyZero
		case legacyZero:
			n.tok[row] = 1
		default:
			n.tok[row]++
		}
	}
}

// token is one step of reading token t into v: its value, or its creation.
func (c *checker) token(w world, i, t int, then func(n *world, v uint8)) {
	if w.tok[t] != absent || !c.d.readersSeed {
		n := w
		n.r[i].seenOnce = false
		then(&n, value(w.tok[t]))
		c.add(w, n)
		return
	}
	if !w.r[i].seenOnce { // seen absent; anything may happen before it is created
		n := w
		n.r[i].seenOnce = true
		c.add(w, n)
		return
	}
	fresh := []uint8{w.top[t] + 1}
	if c.d.bump == bumpIncr {
		fresh = []uint8{1} // what an INCR of an absent token leaves
	}
	if c.d.clockMayStep {
		for v := uint8(1); v <= w.top[t]; v++ {
			fresh = append(fresh, v)
		}
	}
	for _, v := range fresh {
		n := w
		n.r[i].seenOnce = false
		n.tok[t] = v
		n.top[t] = max(n.top[t], v)
		then(&n, v)
		c.add(w, n)
	}
}

// done ends a request and checks what it returned.
func (c *checker) done(w, n world, i int, data [2]uint8) {
	for row := range data {
		if data[row] < n.r[i].lb[row] {
			c.bad = fmt.Sprintf("reader %d got row %d as of commit %d, but commit %d was acknowledged before", i, row, data[row], n.r[i].lb[row])
			return
		}
	}
	r := n.r[i]
	n.r[i] = reader{left: r.left, pin: r.pin, pinned: r.pinned, pinLB: r.pinLB}
	c.add(w, n)
}

func (c *checker) reader(w world, i int) {
	r := w.r[i]
	next := func(change func(n *world)) {
		n := w
		change(&n)
		c.add(w, n)
	}
	switch r.pc {
	case rIdle:
		switch {
		case r.left == 0:
		case r.pinned:
			next(func(n *world) {
				n.r[i].left, n.r[i].lb, n.r[i].v, n.r[i].fromPin, n.r[i].pc = r.left-1, r.pinLB, r.pin, true, rFragment
				if c.d.dynamic {
					n.r[i].v[1] = 0
				}
				if c.d.pinKept {
					n.r[i].lb = w.acked
				}
			})
		default:
			next(func(n *world) { n.r[i] = reader{pc: rToken0, left: r.left - 1, lb: w.acked} })
		}
	case rToken0:
		c.token(w, i, 0, func(n *world, v uint8) {
			n.r[i].v[0], n.r[i].pc = v, rToken1
			if c.d.dynamic {
				n.r[i].pc = rFragment
			}
			if c.d.memoTorn {
				n.r[i].pc = rPeek
			}
			if c.d.pin && i == 0 && !r.pinned {
				n.r[i].pin[0], n.r[i].pinned, n.r[i].pinLB, n.r[i].pc = v, true, r.lb, rPrefetch
			}
		})
	case rPrefetch:
		c.token(w, i, 1, func(n *world, v uint8) {
			n.r[i].pin[1], n.r[i].pc = v, rFragment
			if !c.d.dynamic {
				n.r[i].v[1] = v
			}
		})
	case rPeek:
		next(func(n *world) { n.r[i].v[1], n.r[i].pc = w.tok[1], rFragment })
	case rToken1:
		c.token(w, i, 1, func(n *world, v uint8) { n.r[i].v[1], n.r[i].pc = v, rFragment })
	case rFragment:
		switch {
		case c.d.memoTorn:
			if w.stored && r.v[1] != absent && w.ver == r.v[0]+r.v[1] {
				c.done(w, w, i, w.data)
				return
			}
			next(func(n *world) { n.r[i].v[1], n.r[i].pc = 0, rFlight })
		case c.d.memo:
			if w.stored && w.tok[1] != absent && w.ver == r.v[0]+w.tok[1] {
				c.done(w, w, i, w.data)
				return
			}
			next(func(n *world) { n.r[i].pc = rFlight })
		case w.stored && w.storedExtra:
			next(func(n *world) { n.r[i].d, n.r[i].v[1], n.r[i].pc = w.data, w.ver, rExtra }) // v[1] keeps the version
		case w.stored && w.ver == r.v[0]+r.v[1]:
			c.done(w, w, i, w.data)
		case r.fromPin: // read the tokens anew
			next(func(n *world) { n.r[i].fromPin, n.r[i].v, n.r[i].pc = false, [2]uint8{}, rToken0 })
		default:
			next(func(n *world) { n.r[i].pc = rFlight })
		}
	case rExtra: // the stored fragment has an extra token: read it, without creating it
		extra := w.tok[1]
		if c.d.pinExtra && r.pinned {
			extra = r.pin[1]
		}
		if extra != absent && r.v[0]+extra == r.v[1] {
			c.done(w, w, i, r.d)
			return
		}
		next(func(n *world) {
			n.r[i].v[1], n.r[i].d, n.r[i].pc = 0, [2]uint8{}, rFlight
			if r.fromPin {
				n.r[i].fromPin, n.r[i].v, n.r[i].pc = false, [2]uint8{}, rToken0
			}
		})
	case rFlight:
		key := r.v[0] + r.v[1]
		switch {
		case c.d.flight == flightByName:
			key = 0
		case c.d.leaseBlind:
			key = 1
		}
		if c.d.lease && (w.leased[0] == key || w.leased[1] == key) && !c.d.leaseNotNX {
			next(func(n *world) { n.r[i].saw, n.r[i].pc = w.ver, rLease })
			return
		}
		next(func(n *world) {
			o := 1 - i
			if c.d.flight != flightNone && w.r[o].leads && w.flightVer[o] == key {
				n.r[i].follows, n.r[i].pc = true, rWait
				return
			}
			n.r[i].leads, n.flightVer[i], n.r[i].pc = true, key, rData0
			if c.d.lease {
				n.leased[i] = key
			}
		})
	case rLease: // looks again and again, whether the lease is still there or not
		if c.d.leaseBlind && w.stored && w.ver != r.saw {
			c.done(w, w, i, w.data)
			return
		}
		next(func(n *world) { n.r[i] = reader{pc: rToken0, left: r.left, lb: r.lb} })
	case rData0:
		next(func(n *world) {
			n.r[i].d[0], n.r[i].pc = w.db[0], rDepend
			if !c.d.dynamic || c.d.dependLate {
				n.r[i].pc = rData1
			}
		})
	case rDepend:
		c.token(w, i, 1, func(n *world, v uint8) {
			n.r[i].v[1], n.r[i].pc = v, rData1
			if c.d.dependLate {
				n.r[i].pc = rStore
			}
		})
	case rData1:
		next(func(n *world) {
			n.r[i].d[1], n.r[i].pc = w.db[1], rStore
			if c.d.versionLate {
				n.r[i].pc = rLate0
			}
			if c.d.dependLate {
				n.r[i].pc = rDepend
			}
		})
	case rLate0:
		c.token(w, i, 0, func(n *world, v uint8) { n.r[i].v[0], n.r[i].pc = v, rLate1 })
	case rLate1:
		c.token(w, i, 1, func(n *world, v uint8) { n.r[i].v[1], n.r[i].pc = v, rStore })
	case rStore:
		n := w
		n.stored, n.ver, n.data, n.storedExtra = true, r.v[0]+r.v[1], r.d, c.d.dynamic
		if c.d.leaseFences {
			n.ver = value(w.tok[0]) + value(w.tok[1])
		}
		for o := range n.leased { // by its name: it may be the other's by now
			if w.leased[o] == w.flightVer[i] {
				n.leased[o] = 0
			}
		}
		n.flightVer[i] = 0
		if o := 1 - i; w.r[o].follows && !w.r[o].served {
			n.r[o].served, n.r[o].d, n.r[o].pc = true, r.d, rValidate
			n.r[o].v[1] = r.v[1] // what the leader saw
		}
		c.done(w, n, i, r.d)
	case rWait:
	case rValidate:
		switch {
		case !c.d.dynamic || c.d.followBlind || w.tok[1] != absent && w.tok[1] == r.v[1]:
			c.done(w, w, i, r.d)
		default: // look up once more
			next(func(n *world) { n.r[i] = reader{pc: rToken0, left: r.left, lb: r.lb} })
		}
	}
}

func TestModel(t *testing.T) {
	t.Parallel()
	full := os.Getenv("ICACHE_MODEL") == "full"
	ours := []struct {
		name string
		d    design
	}{
		{"fresh", design{bump: bumpFresh, readersSeed: true}},
		{"if it exists", design{bump: bumpExists, readersSeed: true}},
		{"unlink", design{bump: bumpUnlink, readersSeed: true}},
		{"fresh, flight by version", design{bump: bumpFresh, readersSeed: true, flight: flightByVersion}},
		{"if it exists, flight by version", design{bump: bumpExists, readersSeed: true, flight: flightByVersion}},
		{"unlink, flight by version", design{bump: bumpUnlink, readersSeed: true, flight: flightByVersion}},
		{"token found on the way", design{bump: bumpFresh, readersSeed: true, dynamic: true, flight: flightByVersion}},
		{"token found on the way, if it exists", design{bump: bumpExists, readersSeed: true, dynamic: true, flight: flightByVersion}},
		{"token found on the way, read with the fragment", design{bump: bumpFresh, readersSeed: true, dynamic: true, memo: true, flight: flightByVersion}},
		{"under a Pin", design{bump: bumpFresh, readersSeed: true, pin: true}},
		{"under a Pin, token found on the way", design{bump: bumpFresh, readersSeed: true, pin: true, dynamic: true}},
		{"lease", design{bump: bumpFresh, readersSeed: true, lease: true}},
		{"lease that lapses", design{bump: bumpFresh, readersSeed: true, lease: true, lapses: 1}},
		{"INCR without losses", design{bump: bumpIncr}},
	}
	for _, m := range ours {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			m.d.requests, m.d.losses = [2]uint8{2, 1}, 1
			if full {
				m.d.requests, m.d.losses = [2]uint8{2, 2}, 3
			}
			if m.d.bump == bumpIncr {
				m.d.losses = 0
			}
			c := checker{d: m.d}
			n := c.run()
			require.Empty(t, c.bad, "%s", strings.Join(c.badPath, "\n"))
			t.Logf("%d states", n)
		})
	}
}

// Each known mistake must be found.
func TestModelFindsMistakes(t *testing.T) {
	t.Parallel()
	fresh := design{bump: bumpFresh, readersSeed: true}
	with := func(change func(*design)) design {
		d := fresh
		change(&d)
		return d
	}
	for name, d := range map[string]design{
		"A: absent is 0, the first incr stores 0":              {bump: bumpLegacy},
		"C: absent is 0, tokens get lost":                      {bump: bumpIncr, losses: 1},
		"D: time in the writer only":                           {bump: bumpFresh, losses: 1},
		"F: readers create, INCR starts at 1":                  {bump: bumpIncr, readersSeed: true, losses: 1},
		"J: version after the data":                            with(func(d *design) { d.versionLate = true }),
		"K: increment before the commit":                       with(func(d *design) { d.bumpFirst = true }),
		"L: flight by name":                                    with(func(d *design) { d.flight = flightByName }),
		"S: a value comes back when the clock steps":           with(func(d *design) { d.clockMayStep, d.losses = true, 1 }),
		"T: Depend after the data":                             with(func(d *design) { d.dynamic, d.dependLate = true, true }),
		"V: tokens on the way are read before the fragment":    with(func(d *design) { d.dynamic, d.memoTorn = true, true }),
		"W: a Pin is used after its request":                   with(func(d *design) { d.pin, d.pinKept = true, true }),
		"X: tokens on the way are taken from the Pin":          with(func(d *design) { d.pin, d.pinExtra, d.dynamic = true, true, true }),
		"Y: a lease by name, and its result taken for current": with(func(d *design) { d.lease, d.leaseBlind = true, true }),
		"Z: a lease taken for a lock":                          with(func(d *design) { d.lease, d.leaseFences, d.lapses = true, true, 1 }),
		"a lease that is not exclusive":                        with(func(d *design) { d.lease, d.leaseNotNX = true, true }),
		"U: followers do not look at tokens on the way":        with(func(d *design) { d.dynamic, d.followBlind, d.flight = true, true, flightByVersion }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d.requests = [2]uint8{2, 2}
			c := checker{d: d}
			n := c.run()
			require.NotEmpty(t, c.bad, "not found in %d states", n)
			t.Logf("found after %d states, %d steps: %s", n, len(c.badPath), c.bad)
		})
	}
}
