package cdn

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/mapping"
)

// model is a queue with a sink, a table and a clock that the test moves.
type model struct {
	*queue
	now    time.Time
	stale  map[string]time.Time // tokens of which the sink holds pages from before a change, and when that was
	table  map[string]time.Time
	flying *flight
	saving *rows // on its way to the table
}

// flight is a request on its way: it makes fresh what was stale as it was sent.
type flight struct {
	batch  []taken
	covers map[string]time.Time
}

var modelTokens = []string{"a:1", "a:2", "a:3", "b:1", "b:2", "c:1", "d:1", "e:1", "f:1", "plain", "other", mapping.Generation}

// covered reports whether one of the keys purges a token.
func covered(token string, has func(key string) bool) bool {
	group, ok := mapping.Group(token)
	return has(token) || ok && has(group) || has(mapping.Generation)
}

func (m *model) add(t *rapid.T) {
	tokens := rapid.SliceOfNDistinct(rapid.SampledFrom(modelTokens), 1, 4, rapid.ID).Draw(t, "tokens")
	since := m.now.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "ago")) * time.Second)
	for _, token := range tokens {
		if old, ok := m.stale[token]; !ok || since.Before(old) {
			m.stale[token] = since
		}
	}
	m.queue.add(since, tokens)
}

func (m *model) send(*rapid.T) {
	if m.flying != nil {
		return
	}
	batch := m.take(Limits{Keys: 2, Bytes: 1000}, m.now)
	if len(batch) == 0 {
		return
	}
	if len(batch) > 2 {
		panic("more than the limit")
	}
	m.flying = &flight{batch, map[string]time.Time{}}
	for token, at := range m.stale {
		if covered(token, func(key string) bool {
			return slices.ContainsFunc(batch, func(t taken) bool { return t.key == key })
		}) {
			m.flying.covers[token] = at
			delete(m.stale, token) // until the answer has come it is in covers
		}
	}
}

func (m *model) land(t *rapid.T) {
	if m.flying == nil {
		return
	}
	f := m.flying
	m.flying = nil
	if rapid.Bool().Draw(t, "fails") {
		m.restale(f.covers)
		m.failed(f.batch)
		return
	}
	m.acknowledged(f.batch, m.now)
}

func (m *model) restale(covers map[string]time.Time) {
	for token, at := range covers {
		if old, ok := m.stale[token]; !ok || at.Before(old) {
			m.stale[token] = at
		}
	}
}

func (m *model) beginSave(t *rapid.T) {
	if m.saving == nil {
		r := m.unsaved(m.now.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "hold")) * time.Second))
		m.saving = &r
	}
}

func (m *model) endSave(t *rapid.T) {
	if m.saving == nil {
		return
	}
	r := *m.saving
	m.saving = nil
	if rapid.IntRange(0, 3).Draw(t, "broken") == 0 {
		m.unwritten(r)
		return
	}
	for _, key := range r.gone {
		delete(m.table, key)
	}
	maps.Copy(m.table, r.put)
	m.check(t) // a crash right after the commit
	m.written(r)
}

// others lead for a while: they purge what is in the table, and leave something.
func (m *model) others(t *rapid.T) {
	if m.saving != nil || m.flying != nil {
		return
	}
	for token := range m.stale {
		if covered(token, func(key string) bool { _, ok := m.table[key]; return ok }) {
			delete(m.stale, token)
		}
	}
	clear(m.table)
	m.unstored()
	for _, token := range rapid.SliceOfNDistinct(rapid.SampledFrom(modelTokens), 0, 2, rapid.ID).Draw(t, "left") {
		m.table[token], m.stale[token] = m.now, m.now
		m.restore(token, m.now)
	}
}

// check requires that nothing is lost if the process dies now: what is stale is
// in the table, or the cursor is behind it.
func (m *model) check(t *rapid.T) {
	all := map[string]time.Time{}
	maps.Copy(all, m.stale)
	if m.flying != nil {
		maps.Copy(all, m.flying.covers)
	}
	oldest := m.oldest()
	for token, at := range all {
		kept := covered(token, func(key string) bool { _, ok := m.table[key]; return ok })
		if !kept && (oldest.IsZero() || oldest.After(at)) {
			t.Fatalf("%s, stale since %s, is not in the table %v, and the cursor is at %s", token, at, m.table, oldest)
		}
	}
	if n, _ := m.waits(); n > 2*m.max+1 {
		t.Fatalf("%d keys", n)
	}
	if len(m.table) > 4*m.max+2 {
		t.Fatalf("%d rows", len(m.table))
	}
}

// drain has everything succeed from now on.
func (m *model) drain(t *rapid.T) {
	if m.saving != nil {
		m.unwritten(*m.saving)
	}
	if m.flying != nil {
		m.restale(m.flying.covers)
		m.failed(m.flying.batch)
		m.flying = nil
	}
	for range 1000 {
		m.now = m.now.Add(time.Second)
		m.send(t)
		if m.flying != nil {
			batch := m.flying.batch
			m.flying = nil
			m.acknowledged(batch, m.now)
		}
		r := m.unsaved(m.now)
		for _, key := range r.gone {
			delete(m.table, key)
		}
		maps.Copy(m.table, r.put)
		m.written(r)
	}
	n, _ := m.waits()
	if len(m.stale) > 0 || n > 0 || len(m.table) > 0 || !m.oldest().IsZero() {
		t.Fatalf("left: stale %v, %d keys, rows %v", m.stale, n, m.table)
	}
}

type fakeCache struct{ Cache }

func (fakeCache) Key(token string) string { return token }

func TestNothingIsLostWhereverTheProcessDies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		repeat := time.Duration(rapid.IntRange(0, 2).Draw(t, "repeat")) * time.Second
		m := &model{
			queue: newQueue(fakeCache{}, repeat, rapid.IntRange(1, 6).Draw(t, "max")), now: time.Unix(1e9, 0),
			stale: map[string]time.Time{}, table: map[string]time.Time{},
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": m.add, "send": m.send, "land": m.land, "begin to save": m.beginSave, "end saving": m.endSave, "others": m.others,
			"wait": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "seconds")) * time.Second)
			},
			"": m.check,
		})
		m.drain(t)
	})
}

func TestQueuePurgesAgain(t *testing.T) {
	t.Parallel()
	q := newQueue(fakeCache{}, 2*time.Second, 100)
	now := time.Unix(1e9, 0)
	all := Limits{Keys: 100, Bytes: 1000}
	keys := func(batch []taken) (list []string) {
		for _, b := range batch {
			list = append(list, b.key)
		}
		return list
	}
	q.add(now, []string{"a", "b", "a"})
	batch := q.take(all, now)
	require.Equal(t, []string{"a", "b"}, keys(batch), "each once")
	q.add(now, []string{"b"})
	q.acknowledged(batch, now)
	ready, _ := q.next(now)
	require.True(t, ready, "b has been asked for again since it was sent")
	batch = q.take(all, now)
	require.Equal(t, []string{"b"}, keys(batch))
	q.acknowledged(batch, now.Add(time.Second))
	ready, in := q.next(now.Add(time.Second))
	require.False(t, ready)
	require.Equal(t, time.Second, in)
	require.Empty(t, q.take(all, now.Add(time.Second)))
	batch = q.take(all, now.Add(2*time.Second))
	require.Equal(t, []string{"a"}, keys(batch))
	q.acknowledged(batch, now.Add(2*time.Second))
	batch = q.take(all, now.Add(3*time.Second))
	require.Equal(t, []string{"b"}, keys(batch))
	q.acknowledged(batch, now.Add(3*time.Second))
	n, _ := q.waits()
	require.Zero(t, n)
	_, in = q.next(now)
	require.Negative(t, in)
}

// However many keys there are, the memory is bounded; then groups are purged,
// and then everything.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	q := newQueue(fakeCache{}, 0, 100)
	now := time.Unix(1e9, 0)
	for i := range 1000 {
		q.add(now, []string{fmt.Sprint("movie:", i)})
	}
	n, _ := q.waits()
	require.Equal(t, 101, n)
	require.Contains(t, q.items, "movie:*")
	for i := range 1000 {
		q.add(now, []string{fmt.Sprintf("kind%d:1", i)})
	}
	n, _ = q.waits()
	require.Equal(t, 1, n)
	require.Contains(t, q.items, "*")
	batch := q.take(Limits{Keys: 10, Bytes: 1000}, now)
	require.Len(t, batch, 1)
	q.add(now, []string{"movie:1"})
	q.acknowledged(batch, now)
	batch = q.take(Limits{Keys: 10, Bytes: 1000}, now)
	require.Equal(t, "movie:1", batch[0].key, "it changed after everything was sent")
}

// A key that changes all the time is purged again and again before its
// repetition is due.
func TestRepetitionsAreBounded(t *testing.T) {
	t.Parallel()
	q := newQueue(fakeCache{}, time.Hour, 100)
	now := time.Unix(1e9, 0)
	for range 10_000 {
		q.add(now, []string{"movies"})
		q.acknowledged(q.take(Limits{Keys: 10, Bytes: 1000}, now), now)
	}
	require.LessOrEqual(t, len(q.later), 102)
	batch := q.take(Limits{Keys: 10, Bytes: 1000}, now.Add(time.Hour))
	require.Len(t, batch, 1, "the last one is still due")
	q.acknowledged(batch, now.Add(time.Hour))
	n, _ := q.waits()
	require.Zero(t, n)
}

func TestQueueHeedsTheLimitOfBytes(t *testing.T) {
	t.Parallel()
	q := newQueue(fakeCache{}, 0, 100)
	now := time.Unix(1e9, 0)
	long := string(make([]byte, 500))
	q.add(now, []string{long, "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"})
	for _, want := range []int{1, 2, 1, 0} {
		require.Len(t, q.take(Limits{Keys: 10, Bytes: 30}, now), want)
	}
}
