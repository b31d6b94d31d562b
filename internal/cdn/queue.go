package cdn

import (
	"slices"
	"sync"
	"time"

	"github.com/icache-go/icache-agent/mapping"
)

// maxKeys bounds the keys that are outstanding at a sink, at some 300 bytes each.
// Past it the groups of further ones are purged, past twice as many everything.
const maxKeys = 50_000

// queue is what is outstanding at one sink. It is safe for concurrent use.
type queue struct {
	key    func(token string) string
	all    string // the key of every response
	repeat time.Duration
	max    int
	wake   chan struct{} // something is ready

	mu       sync.Mutex
	items    map[string]*item
	ready    []string         // keys to be purged now, in order
	later    []due            // keys to be purged again, in order
	volatile map[string]*item // those that are not in the table
	gone     map[string]struct{}
	urgent   bool // the table must be written soon
}

// item is a key that is outstanding.
type item struct {
	since    time.Time // the earliest change that it is for was applied
	adds     uint64    // it has been asked for so many times
	queued   bool      // it is in ready
	repeated bool      // it has been purged once; what is outstanding is the repetition
	stored   bool      // it is in the table
}

// due is a key that is to be purged again, unless it has been asked for since.
type due struct {
	key  string
	adds uint64
	at   time.Time
}

// taken is a key on its way to the sink.
type taken struct {
	key  string
	adds uint64
}

func newQueue(c Cache, repeat time.Duration, limit int) *queue {
	return &queue{
		key: c.Key, all: c.Key(mapping.Generation), repeat: repeat, max: limit, wake: make(chan struct{}, 1),
		items: make(map[string]*item), volatile: make(map[string]*item), gone: make(map[string]struct{}),
	}
}

// add has tokens purged. A change that was applied since then is not done with
// before they have been, or are in the table.
func (q *queue) add(since time.Time, tokens []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range tokens {
		if t == mapping.Generation {
			q.everything(since)
			continue
		}
		key := q.key(t)
		if _, known := q.items[key]; !known && len(q.items) >= q.max {
			group, ok := mapping.Group(t)
			if !ok || len(q.items) >= 2*q.max {
				q.everything(since)
				continue
			}
			key = q.key(group)
		}
		q.put(key, since)
	}
}

// put must be called with mu held.
func (q *queue) put(key string, since time.Time) {
	if every := q.items[q.all]; every != nil && every.queued && !every.repeated && key != q.all {
		// It will be sent, and after this. But the change must wait for it too.
		if !every.stored && since.Before(every.since) {
			every.since = since
		}
		return
	}
	it := q.items[key]
	if it == nil {
		it = &item{since: since}
		q.items[key] = it
		q.volatile[key] = it
	} else if since.Before(it.since) {
		it.since = since
	}
	it.adds++
	it.repeated = false
	if !it.queued {
		it.queued = true
		q.ready = append(q.ready, key)
	}
	q.signal()
}

// everything makes the key of every response the only one. mu must be held.
func (q *queue) everything(since time.Time) {
	for key, it := range q.items {
		if key == q.all {
			continue
		}
		if it.since.Before(since) && !it.stored {
			since = it.since
		}
		q.drop(key, it)
	}
	q.ready = q.ready[:0]
	if it := q.items[q.all]; it != nil {
		it.queued = false
	}
	q.later = nil
	q.urgent = true
	q.put(q.all, since)
}

// drop must be called with mu held.
func (q *queue) drop(key string, it *item) {
	delete(q.items, key)
	delete(q.volatile, key)
	if it.stored {
		q.gone[key] = struct{}{}
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be purged now, as much as the limits allow.
func (q *queue) take(l Limits, now time.Time) (batch []taken) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.promote(now)
	bytes := 0
	for len(q.ready) > 0 && len(batch) < l.Keys {
		key := q.ready[0]
		if bytes += len(key) + 3; bytes > l.Bytes && len(batch) > 0 {
			break
		}
		q.ready = q.ready[1:]
		it := q.items[key]
		if it == nil || !it.queued {
			continue
		}
		it.queued = false
		batch = append(batch, taken{key, it.adds})
	}
	if len(q.ready) == 0 {
		q.ready = nil
	}
	return batch
}

// promote makes ready what is to be purged again. mu must be held.
func (q *queue) promote(now time.Time) {
	for len(q.later) > 0 && !q.later[0].at.After(now) {
		d := q.later[0]
		q.later = q.later[1:]
		if it := q.items[d.key]; it != nil && it.adds == d.adds && it.repeated && !it.queued {
			it.queued = true
			q.ready = append(q.ready, d.key)
		}
	}
	if len(q.later) == 0 {
		q.later = nil
	}
}

// next returns whether something is ready, or else how long nothing will be:
// negative if that is not known.
func (q *queue) next(now time.Time) (ready bool, in time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.ready) > 0:
		return true, 0
	case len(q.later) > 0:
		return !q.later[0].at.After(now), max(0, q.later[0].at.Sub(now))
	}
	return false, -1
}

// acknowledged takes in that the sink has purged a batch.
func (q *queue) acknowledged(batch []taken, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range batch {
		it := q.items[t.key]
		if it == nil || it.adds != t.adds {
			continue // it has been asked for again since it was sent
		}
		if !it.repeated && q.repeat > 0 {
			it.repeated = true
			q.later = append(q.later, due{t.key, t.adds, now.Add(q.repeat)})
			continue
		}
		q.drop(t.key, it)
	}
	if len(q.later) > 2*len(q.items)+q.max { // mostly of keys that have been asked for since
		q.later = slices.DeleteFunc(q.later, func(d due) bool {
			it := q.items[d.key]
			return it == nil || it.adds != d.adds || !it.repeated
		})
	}
}

// failed takes in that a batch has to be sent again.
func (q *queue) failed(batch []taken) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range batch {
		if it := q.items[t.key]; it != nil && !it.queued {
			it.queued = true
			q.ready = append(q.ready, t.key)
		}
	}
}

// giveUp has everything purged in place of the keys of a batch.
func (q *queue) giveUp(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.everything(now)
}

// waits returns how many keys are outstanding, and since when.
func (q *queue) waits() (n int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), earliest(q.items)
}

// oldest returns when the earliest change was applied of which a key is neither
// purged nor in the table.
func (q *queue) oldest() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return earliest(q.volatile)
}

func earliest(items map[string]*item) (t time.Time) {
	for _, it := range items {
		if t.IsZero() || it.since.Before(t) {
			t = it.since
		}
	}
	return t
}
