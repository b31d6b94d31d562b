package icache

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The protocol of WithTracking, every interleaving of it, with a clock of a few
// ticks: Redis, which tells of increments and probes in the order they were
// made; the L1, which fills, forgets and serves; a connection that breaks, with
// all that is on its way; and a client that may not notice for long. One token
// is enough. The fragment in Redis is always made by the book.

type trackingDesign struct {
	proofLate    bool // mistake: the proof counts from its arrival
	proofByReply bool // mistake: the reply to the probe is the proof, whatever the push connection does
	clearFirst   bool // mistake: forget, then turn tracking on
	blindFill    bool // mistake: a fill is kept whatever came between
	oneGen       bool // mistake: a fill from before a connection was lost is kept
	readEarly    bool // mistake: pushes are heard before what was known is forgotten
	noProof      bool // mistake: served as long as nothing was heard
}

const (
	trackingTicks    = 5
	trackingStale    = 1 // maxStale
	trackingCommits  = 1
	trackingPushes   = 3
	trackingFailures = 1
)

type trackingWorld struct {
	now, db, tok uint8
	wpc          uint8
	acked        [trackingCommits + 1]uint8 // when, 0: not yet
	ver, data    uint8                      // the stored fragment

	on     bool                  // Redis tracks
	pushes [trackingPushes]uint8 // on their way: 1 an increment, otherwise a probe of tick n-2
	failed uint8
	conn   uint8 // steps of connecting: 0 done

	value, changes, gen uint8 // of the L1's token; 0: unknown
	entryVer, entryData uint8
	entryGen            uint8
	proof               uint8 // 0: none

	fill                       uint8 // steps
	fillVer, fillData, fillGen uint8
	fillChanges                uint8
	probe                      uint8 // tick it was recorded at, 0: none
	probeSent                  bool
}

func (w *trackingWorld) push(what uint8) bool {
	for i := range w.pushes {
		if w.pushes[i] == 0 {
			w.pushes[i] = what
			return true
		}
	}
	return false
}

func (d trackingDesign) serves(w *trackingWorld) bool {
	current := w.entryVer != 0 && w.entryGen == w.gen && w.value != 0 && w.value == w.entryVer
	return current && (d.noProof || w.proof != 0 && w.now-w.proof <= trackingStale)
}

// step calls add with every world that may come next.
func (d trackingDesign) step(w trackingWorld, add func(trackingWorld)) {
	try := func(may bool, change func(n *trackingWorld)) {
		if may {
			n := w
			change(&n)
			add(n)
		}
	}
	fits := w.pushes[trackingPushes-1] == 0
	try(w.now < trackingTicks, func(n *trackingWorld) { n.now++ })

	// The writer: commit, increment, acknowledgement.
	switch w.wpc % 3 {
	case 0:
		try(w.wpc < 3*trackingCommits, func(n *trackingWorld) { n.db++; n.wpc++ })
	case 1:
		try(fits, func(n *trackingWorld) {
			n.tok++
			n.wpc++
			if w.on {
				n.push(1)
			}
		})
	case 2:
		try(true, func(n *trackingWorld) { n.acked[w.db] = w.now; n.wpc++ })
	}
	// Somebody stores the fragment anew.
	try(w.ver != w.tok, func(n *trackingWorld) { n.ver, n.data = w.tok, w.db })

	// The connection breaks, and what is on its way is lost. The client connects
	// again whenever it notices.
	try(w.failed < trackingFailures && w.conn == 0, func(n *trackingWorld) {
		n.failed++
		n.on, n.pushes, n.conn = false, [trackingPushes]uint8{}, 1
	})
	forget := func(n *trackingWorld) {
		n.value, n.conn = 0, w.conn+1
		if !d.oneGen {
			n.gen++
		} else {
			n.changes = 0
		}
	}
	track := func(n *trackingWorld) { n.on, n.conn = true, w.conn+1 }
	steps := []func(n *trackingWorld){1: track, 2: forget}
	if d.clearFirst {
		steps[1], steps[2] = forget, track
	}
	if w.conn != 0 {
		try(true, func(n *trackingWorld) { steps[w.conn](n); n.conn %= 3 })
	}

	// The L1 fills: begin, read, keep.
	switch w.fill {
	case 0:
		try(true, func(n *trackingWorld) { n.fillGen, n.fillChanges, n.fill = w.gen, w.changes, 1 })
	case 1:
		try(w.ver == w.tok, func(n *trackingWorld) { n.fillVer, n.fillData, n.fill = w.ver, w.data, 2 })
	case 2:
		try(true, func(n *trackingWorld) {
			n.fill = 0
			if w.gen != w.fillGen { // kept where nobody looks
				return
			}
			n.entryVer, n.entryData, n.entryGen = w.fillVer, w.fillData, w.fillGen
			if w.changes == w.fillChanges || d.blindFill {
				n.value = w.fillVer
			}
		})
	}

	// The probe: noted, written.
	try(w.probe == 0, func(n *trackingWorld) { n.probe = w.now })
	try(w.probe != 0 && !w.probeSent && fits, func(n *trackingWorld) {
		n.probeSent = true
		switch {
		case d.proofByReply:
			n.proof, n.probe, n.probeSent = w.probe, 0, false
		case w.on:
			n.push(w.probe + 2)
		}
	})
	// Given up when it is too old.
	try(w.probe != 0 && w.now-w.probe > trackingStale, func(n *trackingWorld) { n.probe, n.probeSent = 0, false })

	// A push arrives. Nobody reads the connection before it is made.
	try(w.pushes[0] != 0 && (w.conn == 0 || d.readEarly), func(n *trackingWorld) {
		copy(n.pushes[:], w.pushes[1:])
		n.pushes[trackingPushes-1] = 0
		switch at := w.pushes[0] - 2; {
		case w.pushes[0] == 1:
			n.value = 0
			n.changes++
		case at == w.probe:
			n.proof, n.probe, n.probeSent = w.probe, 0, false
			if d.proofLate {
				n.proof = w.now
			}
		}
	})
}

// run returns what is wrong, and how many states there are.
func (d trackingDesign) run() (bad *trackingWorld, states int) {
	// The clock starts late enough for a proof to be old.
	start := trackingWorld{now: 2, tok: 1, ver: 1, on: true, gen: 1}
	seen := map[trackingWorld]struct{}{start: {}}
	queue := []trackingWorld{start}
	for len(queue) > 0 {
		w := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if d.serves(&w) {
			for commit, at := range w.acked {
				if at != 0 && w.now-at > trackingStale && w.entryData < uint8(commit) {
					return &w, len(seen)
				}
			}
		}
		d.step(w, func(n trackingWorld) {
			if _, ok := seen[n]; !ok {
				seen[n] = struct{}{}
				queue = append(queue, n)
			}
		})
	}
	return nil, len(seen)
}

func TestModelTracking(t *testing.T) {
	t.Parallel()
	bad, n := trackingDesign{}.run()
	require.Nil(t, bad)
	t.Logf("%d states", n)
}

func TestModelTrackingFindsMistakes(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]trackingDesign{
		"the proof counts from its arrival":       {proofLate: true},
		"the reply to the probe is the proof":     {proofByReply: true},
		"cleared before tracking is on":           {clearFirst: true},
		"a fill is kept although something came":  {blindFill: true},
		"a fill is kept over a lost connection":   {oneGen: true},
		"a push is heard before all is forgotten": {readEarly: true},
		"no proof is asked for":                   {noProof: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, n := d.run()
			require.NotNil(t, bad, "not found in %d states", n)
			t.Logf("found after %d states: %+v", n, *bad)
		})
	}
}
