package listener

import (
	"math"
	"slices"
)

// The model is every interleaving of a few writers, each with one transaction,
// and the listener, which may crash at every step. There is no sweep: whoever
// sleeps, sleeps until the bell rings. It uses the cursor arithmetic of the
// listener itself. The listener may have writers use the other table, and empty
// a table, whenever it is between two polls: whether it is worth it is left out.

const modelWriters = 3

type writerState byte

const (
	writerIdle      writerState = iota
	writerChose                 // has an id, and has looked up which table is in use
	writerInserted              // has an id and a row that nobody sees
	writerRang                  // has tried the doorbell lock; holds it shared, or will notify at commit
	writerVisible               // committed, locks still held
	writerUnlocked              // committed, locks released, notification not yet sent
	writerCommitted             //
	writerAborted
)

type modelWriter struct {
	state  writerState
	xid    byte
	table  byte
	shared bool
	ring   bool
	gone   bool // the table was emptied
}

// locks reports whether the writer keeps others from emptying its table.
func (w modelWriter) locks() bool {
	return w.state == writerInserted || w.state == writerRang || w.state == writerVisible
}

func (w modelWriter) committed() bool {
	return w.state == writerVisible || w.state == writerUnlocked || w.state == writerCommitted
}

type agentState byte

const (
	agentDown agentState = iota
	agentAwake
	agentLocked  // has tried the lock, is about to poll
	agentRead    // has polled
	agentApplied // the handler has flushed
	agentResting // the cursor is advanced
	agentAsleep
)

// modelCursor is a snapshot that can be compared.
type modelCursor struct {
	xmax byte
	xip  uint16
}

func (c modelCursor) snapshot() snapshot {
	s := snapshot{xmax: uint64(c.xmax)}
	for x := range byte(16) {
		if c.xip&(1<<x) != 0 {
			s.xip = append(s.xip, uint64(x))
		}
	}
	return s
}

func modelOf(s snapshot) modelCursor {
	c := modelCursor{xmax: byte(s.xmax)}
	for _, x := range s.xip {
		c.xip |= 1 << x
	}
	return c
}

type model struct {
	writers [modelWriters]modelWriter
	next    byte // transaction id

	agent     agentState
	listening bool
	held      bool // exclusively
	tried     bool // the last attempt failed
	rung      bool
	cursor    modelCursor
	saved     modelCursor
	read      uint16 // rows in hand, a bit per transaction id
	to        modelCursor
	more      bool
	applied   uint16
	crashes   byte

	active  byte // the table in use
	flips   byte // that are left
	files   [2]byte
	known   [2]byte // by the leader
	kept    [2]byte // with the saved cursor
	checked byte    // a table that has nothing unread, plus one
	reset   bool    // everything was reset
}

// mutant switches off one part of the protocol.
type mutant struct {
	sleepWithoutPoll bool // after the lock, no poll
	pollBeforeLock   bool // the same mistake the other way round
	sleepWithoutLock bool // a failed attempt is ignored
	lastID           bool // the cursor is the greatest id seen
	forgetOpen       bool // the cursor is xmax alone
	forgetOlder      bool // a piece of a backlog forgets what was open before it
	saveEarly        bool // the cursor is saved before the handler has flushed
	listenLate       bool // LISTEN only before sleeping
	clearLate        bool // the notifications of the poll's time are forgotten
	unlockEarly      bool // writers release the lock before their commit is visible
	noRing           bool // writers that cannot get the lock do not notify
	cutIsAll         bool // a poll that was cut off counts as a whole one

	emptyUnread   bool // a table is emptied whatever is in it
	emptyUnlocked bool // a table is emptied while writers use it
	emptyLater    bool // nothing unread was seen before the lock was obtained
	emptyEarly    bool // what has been read counts as applied
	oneTable      bool // only the table in use is read
	filesLater    bool // the saved cursor learns of the new file after the table was emptied
}

func (m model) open() (xip uint16) {
	for _, w := range m.writers {
		if w.state == writerChose || w.state == writerInserted || w.state == writerRang {
			xip |= 1 << w.xid
		}
	}
	return xip
}

// successors returns every state that one step leads to.
func (m model) successors(mu mutant) (out []model) {
	add := func(n model) {
		// Writers are interchangeable: keep one of the orders.
		slices.SortFunc(n.writers[:], func(a, b modelWriter) int { return int(a.xid) - int(b.xid) })
		out = append(out, n)
	}
	for i, w := range m.writers {
		n := m
		nw := &n.writers[i]
		switch w.state {
		case writerIdle:
			nw.state, nw.xid, nw.table = writerChose, m.next, m.active
			if m.flips == 0 { // there is no other to choose any more
				nw.state = writerInserted
			}
			n.next++
			add(n)
		case writerChose:
			nw.state = writerInserted
			add(n)
		case writerInserted, writerRang:
			if w.state == writerInserted {
				nw.state = writerRang
				if m.held {
					nw.ring = !mu.noRing
				} else {
					nw.shared = !mu.unlockEarly
				}
			} else {
				nw.state = writerVisible
			}
			add(n)
			n = m
			n.writers[i].state, n.writers[i].shared = writerAborted, false
			add(n)
		case writerVisible:
			nw.state, nw.shared = writerUnlocked, false
			add(n)
		case writerUnlocked:
			nw.state = writerCommitted
			n.rung = n.rung || w.ring && m.listening
			add(n)
		}
	}
	if m.agent != agentDown && m.crashes > 0 {
		n := m
		n.crashes--
		n.agent, n.listening, n.held, n.tried, n.rung = agentDown, false, false, false, false
		n.read, n.more, n.to, n.cursor = 0, false, modelCursor{}, m.saved
		n.known, n.checked = m.kept, 0
		add(n)
	}
	if m.agent == agentResting || m.agent == agentAsleep || mu.emptyEarly && m.agent == agentRead {
		for _, n := range m.rotate(mu) {
			add(n)
		}
	}
	for _, n := range m.agentSteps(mu) {
		add(n)
	}
	return out
}

func (m model) agentSteps(mu mutant) (out []model) {
	switch m.agent {
	case agentDown:
		m.agent, m.listening = agentAwake, !mu.listenLate
		return []model{m}
	case agentAwake:
		// Poll without trying the lock, or try it first.
		out = append(out, m.poll(mu)...)
		free := true
		for _, w := range m.writers {
			free = free && !w.shared
		}
		m.held, m.tried, m.agent = free, !free, agentLocked
		if free && mu.sleepWithoutPoll {
			m.agent = agentAsleep
		}
		return append(out, m)
	case agentLocked:
		return m.poll(mu)
	case agentRead:
		m.applied |= m.read
		m.agent = agentApplied
		return []model{m}
	case agentApplied:
		m.cursor, m.read, m.agent = m.to, 0, agentResting
		out = append(out, m) // not saved yet
		m.saved = m.cursor
		return append(out, m)
	case agentResting:
		switch {
		case m.more:
			m.more = false
			return m.poll(mu)
		case m.held && m.rung:
			return m.poll(mu)
		case m.held || m.tried && mu.sleepWithoutLock:
			m.agent, m.listening = agentAsleep, true
		default:
			m.agent = agentAwake
			if mu.pollBeforeLock {
				free := true
				for _, w := range m.writers {
					free = free && !w.shared
				}
				if m.held = free; free {
					m.agent = agentAsleep
				}
			}
		}
		m.tried = false
		return []model{m}
	case agentAsleep:
		if m.rung {
			out = m.poll(mu) // go on with the lock held
			m.held = false   // or wake
			out = append(out, m.poll(mu)...)
		}
		return out
	}
	return nil
}

// rotate has writers use the other table, or empties one.
func (m model) rotate(mu mutant) (out []model) {
	if m.flips > 0 {
		n := m
		n.active, n.flips = 1-m.active, m.flips-1
		out = append(out, n)
	}
	if m.kept != m.known {
		n := m
		n.kept = m.known
		out = append(out, n)
	}
	cursor := m.cursor.snapshot()
	if mu.emptyEarly && m.agent == agentRead {
		cursor = m.to.snapshot()
	}
	for table := range byte(2) {
		locked, unread, rows := false, false, false
		for _, w := range m.writers {
			if w.table != table || w.gone || !w.locks() && w.state != writerUnlocked && w.state != writerCommitted {
				continue
			}
			rows = true
			locked = locked || w.locks()
			unread = unread || w.committed() && !cursor.has(uint64(w.xid))
		}
		switch {
		case mu.emptyLater && m.checked != table+1:
			if n := m; !unread {
				n.checked = table + 1
				out = append(out, n)
			}
			continue
		case !rows, locked && !mu.emptyUnlocked, unread && !mu.emptyUnread && !mu.emptyLater:
			continue
		}
		n := m
		n.checked = 0
		n.files[table]++
		n.known[table]++
		if !mu.filesLater {
			n.kept[table]++
		}
		for i, w := range n.writers {
			n.writers[i].gone = w.gone || w.table == table && (w.locks() || w.committed())
		}
		out = append(out, n)
	}
	return out
}

// poll reads everything that is new, or only the oldest transaction's share of it.
func (m model) poll(mu mutant) (out []model) {
	now := modelCursor{xmax: m.next, xip: m.open()}.snapshot()
	cursor := m.cursor.snapshot()
	if mu.forgetOpen {
		cursor.xip = nil
	}
	var rows uint16
	first := uint64(math.MaxUint64)
	last := uint64(0)
	for _, w := range m.writers {
		if !w.committed() || w.gone || cursor.has(uint64(w.xid)) || mu.oneTable && w.table != m.active {
			continue
		}
		rows |= 1 << w.xid
		first, last = min(first, uint64(w.xid)), max(last, uint64(w.xid))
	}
	m.rung = m.rung && mu.listenLate
	m.reset, m.known = m.reset || m.files != m.known, m.files
	if mu.clearLate { // whatever comes until the result has been dealt with is lost
		m.rung = false
	}
	m.agent, m.read, m.more, m.to = agentRead, rows, false, modelOf(now)
	if mu.lastID {
		m.to = modelCursor{xmax: max(m.cursor.xmax, byte(last+1))}
	}
	if mu.saveEarly {
		m.saved = m.to
	}
	out = append(out, m)
	if rows != 0 && first != last && !mu.lastID {
		m.read = 1 << first
		if mu.cutIsAll {
			return append(out, m)
		}
		m.more = true
		m.to = modelOf(cursor.through(now, first))
		if mu.forgetOlder {
			m.to.xip = modelOf(now).xip & (1<<m.to.xmax - 1)
		}
		out = append(out, m)
	}
	return out
}

// wrong says what is wrong with a state, or "".
func (m model) wrong() string {
	if m.reset {
		return "everything was reset for nothing"
	}
	settled := true
	for _, w := range m.writers {
		if m.applied&(1<<w.xid) != 0 && !w.committed() {
			return "a change was applied that is not committed"
		}
		if w.gone && w.committed() && m.applied&(1<<w.xid) == 0 {
			return "a change was thrown away"
		}
		settled = settled && (w.state == writerIdle || w.state == writerCommitted || w.state == writerAborted)
	}
	if m.agent != agentAsleep || m.rung || !settled {
		return ""
	}
	for _, w := range m.writers {
		if w.state == writerCommitted && m.applied&(1<<w.xid) == 0 {
			return "the listener sleeps over a committed change"
		}
	}
	return ""
}
