package cdn

import "time"

// The part of a queue that has to do with the table: what goes into it and out
// of it. The table never lacks a key that is stored.

// rows are the keys to be written to the table, and those to be removed from it,
// in one transaction, the latter first.
type rows struct {
	put  map[string]time.Time
	gone []string
}

func (r rows) empty() bool { return len(r.put)+len(r.gone) == 0 }

// unsaved returns what the table lacks: keys that have been outstanding since
// before a time, or all if it is urgent. What is returned as gone must be
// written, or given back with [queue.unwritten].
func (q *queue) unsaved(before time.Time) rows {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := rows{put: make(map[string]time.Time)}
	for key, it := range q.volatile {
		if q.urgent || it.since.Before(before) {
			r.put[key] = it.since
		}
	}
	q.urgent = false
	for key := range q.gone {
		r.gone = append(r.gone, key)
	}
	clear(q.gone)
	return r
}

// purged returns the rows that can be removed without others being written.
func (q *queue) purged() (r rows) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.urgent {
		return r // some are replaced by what has not been written yet
	}
	for key := range q.gone {
		r.gone = append(r.gone, key)
	}
	return r
}

// hurry has the next round write everything.
func (q *queue) hurry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.urgent = true
}

// written takes in that the table has these rows.
func (q *queue) written(r rows) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key := range r.put {
		if it := q.items[key]; it != nil {
			it.stored = true
			delete(q.volatile, key)
		} else {
			q.gone[key] = struct{}{} // purged meanwhile
		}
	}
}

// unwritten takes in that the table could not be written.
func (q *queue) unwritten(r rows) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range r.gone {
		q.gone[key] = struct{}{}
	}
	q.urgent = true
}

// unstored takes in that the rows may not be there any more.
func (q *queue) unstored() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, it := range q.items {
		it.stored = false
		q.volatile[key] = it
	}
	q.urgent = true
}

// restore takes in a row that another process has left.
func (q *queue) restore(key string, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, known := q.items[key]; key == q.all || !known && len(q.items) >= 2*q.max {
		q.everything(since)
	} else {
		q.put(key, since)
	}
	if it := q.items[key]; it != nil {
		it.stored = true
		delete(q.volatile, key)
		delete(q.gone, key) // that was an earlier row
	} else {
		q.gone[key] = struct{}{} // everything is purged anyway
	}
}
