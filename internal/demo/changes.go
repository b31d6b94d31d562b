package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"time"

	"github.com/icache-go/icache-agent/internal/agent"
)

const (
	changesKept  = 12                     // shown in the column
	changeKeys   = 90                     // characters of the keys shown
	changeTokens = 8                      // tokens shown
	matchLimit   = 500 * time.Millisecond // how long after its commit a change is taken for the page's own
	answerLimit  = 100 * time.Millisecond // how long the answer to the page's COMMIT may come after its effect

	streamBacklog = 64 // changes that a slow browser may fall behind before its stream is ended
)

// change is one applied change, as the page shows it.
type change struct {
	Seq     uint64
	Time    time.Time
	Op      string
	Table   string
	Keys    string
	Tokens  []string
	More    int    // tokens not shown
	Latency string // commit acknowledged → tokens bumped; "" if the page did not make the change
}

// changes keeps what the agent has applied and hands it to the open streams.
type changes struct {
	mu      sync.Mutex
	last    []change // newest first
	seq     uint64
	streams map[chan change]struct{}
	next    chan struct{} // closed at the next change
	writing map[*write]struct{}
}

// write is a statement that the page itself runs, so that it knows when it was committed.
type write struct {
	table     string
	begun     time.Time
	committed time.Time
	done      chan struct{}
}

func newChanges() *changes {
	return &changes{streams: map[chan change]struct{}{}, next: make(chan struct{}), writing: map[*write]struct{}{}}
}

// follow takes in what the agent applies until the subscription ends.
func (c *changes) follow(sub *agent.Subscription) {
	for e := range sub.Events() {
		c.add(e)
	}
}

func (c *changes) add(e agent.Event) {
	committed, known := c.committed(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := describe(e)
	if known {
		ch.Latency = milliseconds(max(0, e.Time.Sub(committed)))
	}
	c.seq = e.Seq
	c.last = append([]change{ch}, c.last[:min(len(c.last), changesKept-1)]...)
	close(c.next)
	c.next = make(chan struct{})
	for s := range c.streams {
		select {
		case s <- ch:
		default:
			close(s)
			delete(c.streams, s) // the browser connects again and fetches everything
		}
	}
}

// committed returns when the change was committed, if the page made it. The
// agent may be done before the page's own COMMIT has been answered.
func (c *changes) committed(e agent.Event) (time.Time, bool) {
	c.mu.Lock()
	var found *write
	for w := range c.writing {
		if w.table == e.Table && w.begun.Before(e.Time) && (found == nil || w.begun.Before(found.begun)) {
			found = w
		}
	}
	delete(c.writing, found) // one statement is one change
	c.mu.Unlock()
	if found == nil {
		return time.Time{}, false
	}
	select {
	case <-found.done:
		return found.committed, !found.committed.IsZero()
	case <-time.After(answerLimit):
		return time.Time{}, false
	}
}

// made runs a statement of the page's own that changes one table.
func (c *changes) made(table string, run func() error) error {
	w := &write{table: table, begun: time.Now(), done: make(chan struct{})}
	c.mu.Lock()
	c.writing[w] = struct{}{}
	c.mu.Unlock()
	err := run()
	if err == nil {
		w.committed = time.Now()
	}
	close(w.done)
	time.AfterFunc(matchLimit, func() { // it may have changed nothing
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.writing, w)
	})
	return err
}

// applied returns a channel that is closed when the next change has been applied.
func (c *changes) applied() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// latest returns the number of the last change.
func (c *changes) latest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq
}

func (c *changes) recent() []change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]change(nil), c.last...)
}

// stream returns a channel of changes that is closed when ctx ends or the reader is too slow.
func (c *changes) stream(ctx context.Context) <-chan change {
	s := make(chan change, streamBacklog)
	c.mu.Lock()
	c.streams[s] = struct{}{}
	c.mu.Unlock()
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, open := c.streams[s]; open {
			close(s)
			delete(c.streams, s)
		}
	})
	return s
}

func describe(e agent.Event) change {
	ch := change{Seq: e.Seq, Time: e.Time, Op: e.Op, Table: e.Table, Tokens: e.Tokens, Keys: shortKeys(e.Keys)}
	if e.Kind == "reset" {
		ch.Op, ch.Table, ch.Keys = "reset", "everything", e.Reason
	}
	if n := len(ch.Tokens); n > changeTokens {
		ch.Tokens, ch.More = ch.Tokens[:changeTokens], n-changeTokens
	}
	return ch
}

// shortKeys writes the recorded keys for people: film_id=12 viewer_id=3, …
func shortKeys(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var rows []map[string]any
	if json.Unmarshal(raw, &rows) != nil {
		return ""
	}
	var b strings.Builder
	for i, row := range rows {
		var fields []string
		for _, name := range sortedKeys(row) {
			value := row[name]
			if value == nil {
				value = "NULL"
			}
			fields = append(fields, fmt.Sprintf("%s=%v", name, value))
		}
		text := strings.Join(fields, " ")
		if b.Len() > 0 && b.Len()+len(text) > changeKeys {
			fmt.Fprintf(&b, " and %d more", len(rows)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(text)
	}
	return b.String()
}

// eventData renders a change as the one line that an event stream needs.
func eventData(t *template.Template, ch change) ([]byte, error) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "change", ch); err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(bytes.TrimSpace(b.Bytes()), []byte("\n"), []byte(" ")), nil
}
