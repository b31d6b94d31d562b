package listener

import "time"

// trail remembers where the cursor was, for a [Settler]. While changes have not
// settled, the cursor that is saved is the one of before they were applied, and
// rows behind it stay in the outbox, so that a successor applies them again.
type trail []checkpoint

// checkpoint is where the cursor was at a time: everything that was applied
// later is beyond it.
type checkpoint struct {
	at     time.Time
	cursor snapshot
	none   bool // there was no cursor, and a successor has to reset everything
}

const (
	trailStep = 50 * time.Millisecond
	trailMax  = 1024
)

// add adds a checkpoint. One that comes soon after another is left out, and of
// too many every second one: those before them will do.
func (t *trail) add(c checkpoint) {
	s := *t
	if n := len(s); n > 0 && !c.none && c.at.Sub(s[n-1].at) < trailStep {
		return
	}
	if len(s) >= trailMax {
		kept := s[:1]
		for i := 1; i < len(s); i++ {
			if i%2 == 0 || s[i].none {
				kept = append(kept, s[i])
			}
		}
		clear(s[len(kept):])
		s = kept
	}
	*t = append(s, c)
}

// before returns the last checkpoint that is no later than a time, and forgets
// those before it.
func (t *trail) before(at time.Time) checkpoint {
	s := *t
	i := 0
	for i+1 < len(s) && !s[i+1].at.After(at) {
		i++
	}
	*t = append(s[:0], s[i:]...)
	return (*t)[0]
}

// settler returns the handler if it is one that settles.
func (ld *leader) settler() (Settler, bool) {
	s, ok := ld.l.cfg.Handler.(Settler)
	return s, ok
}

// mark adds a checkpoint before something is applied.
func (ld *leader) mark(none bool) {
	if _, ok := ld.settler(); ok {
		ld.trail.add(checkpoint{time.Now(), ld.cursor, none})
	}
}

// settled returns the furthest cursor behind which everything has settled, and
// whether changes beyond it are yet to settle. It reports false if there is no
// such cursor.
func (ld *leader) settled() (c snapshot, pending, ok bool) {
	s, is := ld.settler()
	if !is {
		return ld.cursor, false, true
	}
	at := s.Unsettled()
	if at.IsZero() {
		ld.trail = ld.trail[:0]
		return ld.cursor, false, true
	}
	if len(ld.trail) == 0 {
		return ld.cursor, true, true // what is yet to settle was applied by an earlier session
	}
	from := ld.trail.before(at)
	return from.cursor, true, !from.none
}
