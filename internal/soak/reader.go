package soak

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/tmpl/html/template"
)

const readTimeout = 5 * time.Second

// read fetches one count and holds it against what was known before.
func (c *Check) read(ctx context.Context, i int) {
	r := &c.rows[i]
	c.forgetting.RLock()
	epoch := c.epoch.Load()
	r.mu.Lock()
	acked, forgotten, committed := r.acked, r.forgotten, int64(len(r.committed))
	r.mu.Unlock()
	c.forgetting.RUnlock()
	start := time.Now()
	rctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	computed := false
	got, err := c.cfg.Read(rctx, i, func(ctx context.Context) (int64, error) {
		computed = true
		return c.load(ctx, i)
	})
	if err != nil {
		if ctx.Err() == nil {
			c.report.readErrors.Add(1)
		}
		return
	}
	c.report.reads.Add(1)
	if !computed {
		c.report.hits.Add(1)
	}
	switch {
	case got < acked && c.epoch.Load() == epoch:
		c.report.violation(fmt.Sprintf("row %d: read %d, but %d had been acknowledged before the read began at %s",
			i+1, got, acked, start.Format(time.RFC3339Nano)))
	case got < max(acked, forgotten):
		c.report.forgot(time.Since(c.start) - time.Duration(c.forgotAt.Load()))
	}
	if got < committed {
		r.mu.Lock()
		missed := r.committed[got] // when the first count that the reader did not see was committed
		r.mu.Unlock()
		c.report.stale(start.Sub(missed))
	}
}

const pageSource = `<p>{{icache "count-page" .Token}}{{.Load}}{{endicache}}</p>`

// page is the data of the template.
type page struct {
	Token string
	load  func() (int64, error)
}

// Load is called by the template, on a miss only.
func (p page) Load() (int64, error) { return p.load() }

// newReader fetches through the library and through the template tag in turn.
func newReader(cache *icache.Cache) (func(context.Context, int, func(context.Context) (int64, error)) (int64, error), error) {
	t, err := template.New("count").Cache(cache).Parse(pageSource)
	if err != nil {
		return nil, err
	}
	var turn atomic.Uint64
	return func(ctx context.Context, id int, load func(context.Context) (int64, error)) (int64, error) {
		token := rowToken(id)
		if turn.Add(1)%2 == 0 {
			return icache.Fetch(ctx, cache, "count", []string{token}, load)
		}
		var b bytes.Buffer
		if err := t.ExecuteContext(ctx, &b, page{token, func() (int64, error) { return load(ctx) }}); err != nil {
			return 0, err
		}
		return strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(b.String(), "<p>"), "</p>"), 10, 64)
	}, nil
}
