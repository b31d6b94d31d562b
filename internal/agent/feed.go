package agent

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"
)

// Event is one applied change, for people to look at: the status page, /events,
// icache-agent tail and the demo read it. It is published after Redis has
// acknowledged the tokens.
type Event struct {
	Seq    uint64          `json:"seq"`
	Time   time.Time       `json:"time"` // when Redis had acknowledged the tokens
	Kind   string          `json:"kind"` // "change" or "reset"
	Table  string          `json:"table,omitempty"`
	Op     string          `json:"op,omitempty"`
	Keys   json.RawMessage `json:"keys,omitempty"` // null: keys unknown, the whole table
	Tokens []string        `json:"tokens"`
	More   int             `json:"more,omitempty"`   // tokens past the first 50, which are not listed
	Reason string          `json:"reason,omitempty"` // why everything was reset
}

const (
	feedHistory  = 64  // events kept for a page that has just been opened
	feedBuffer   = 256 // events a slow subscriber may fall behind before it misses some
	feedBudget   = 200 // events recorded per second while nobody subscribes
	feedMaxToken = 50  // tokens listed per event
)

// feed keeps the last events and hands new ones to subscribers. It never blocks
// the applier: a subscriber that falls behind misses events and is told how many.
type feed struct {
	subscribers atomic.Int32

	mu     sync.Mutex
	seq    uint64
	recent []Event // ring, oldest first
	subs   map[*Subscription]struct{}
	second int64 // budget window while nobody subscribes
	spent  int
}

// Subscription delivers events until it is closed.
type Subscription struct {
	feed   *feed
	ch     chan Event
	missed atomic.Uint64
	once   sync.Once
}

// Events delivers the events in the order in which they were applied.
func (s *Subscription) Events() <-chan Event { return s.ch }

// Missed returns how many events were dropped because the subscriber was too slow.
func (s *Subscription) Missed() uint64 { return s.missed.Load() }

// Close ends the subscription and closes the channel. It may be called twice.
func (s *Subscription) Close() {
	s.once.Do(func() {
		s.feed.mu.Lock()
		defer s.feed.mu.Unlock()
		delete(s.feed.subs, s)
		s.feed.subscribers.Add(-1)
		close(s.ch)
	})
}

func newFeed() *feed { return &feed{subs: make(map[*Subscription]struct{})} }

// subscribe returns a subscription and the events that came before it.
func (f *feed) subscribe() (*Subscription, []Event) {
	s := &Subscription{feed: f, ch: make(chan Event, feedBuffer)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[s] = struct{}{}
	f.subscribers.Add(1)
	return s, append([]Event(nil), f.recent...)
}

// wants reports whether an event is worth building now. While nobody subscribes
// only some events a second are, so that a backlog is drained at full speed.
func (f *feed) wants(now time.Time) bool {
	if f.subscribers.Load() > 0 {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if sec := now.Unix(); sec != f.second {
		f.second, f.spent = sec, 0
	}
	f.spent++
	return f.spent <= feedBudget
}

func (f *feed) publish(events []Event) {
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		f.seq++
		e.Seq = f.seq
		if len(f.recent) == feedHistory {
			copy(f.recent, f.recent[1:])
			f.recent = f.recent[:feedHistory-1]
		}
		f.recent = append(f.recent, e)
		for s := range f.subs {
			select {
			case s.ch <- e:
			default:
				s.missed.Add(1)
			}
		}
	}
}

func (f *feed) last() []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Event(nil), f.recent...)
}
