package soak

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Report is the outcome of a check.
type Report struct {
	Seconds     float64  `json:"seconds"`
	Commits     uint64   `json:"commits"`
	Reads       uint64   `json:"reads"`
	Hits        uint64   `json:"hits"`
	Violations  uint64   `json:"violations"`       // must be 0
	Lost        int      `json:"lost"`             // must be 0
	Unacked     uint64   `json:"unacknowledged"`   // commits without an acknowledgement in time
	Covered     uint64   `json:"covered"`          // such commits, but everything was outdated at the time, perhaps before they were
	Forgotten   uint64   `json:"forgotten"`        // reads that missed what Redis had acknowledged and forgot; see Check.Forget
	ForgotMax   float64  `json:"forgotten_max_ms"` // how long after it forgot
	Stale       uint64   `json:"stale_reads"`      // between commit and increment
	StaleP50    float64  `json:"stale_p50_ms"`     // how old what they missed was
	StaleP99    float64  `json:"stale_p99_ms"`     //
	StaleMax    float64  `json:"stale_max_ms"`     // the longest time from a commit to a read that did not see it
	AckP50      float64  `json:"ack_p50_ms"`       // commit to acknowledged increment
	AckP99      float64  `json:"ack_p99_ms"`       //
	AckMax      float64  `json:"ack_max_ms"`       //
	WriteErrors uint64   `json:"write_errors"`     // statements that failed, for whatever reason
	ReadErrors  uint64   `json:"read_errors"`      //
	Examples    []string `json:"violations_found,omitempty"`
}

// OK reports whether every promise was kept.
func (r Report) OK() bool { return r.Violations == 0 && r.Lost == 0 }

// String is a summary for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f s: %d commits, %d reads, %.0f %% hits\n", r.Seconds, r.Commits, r.Reads, 100*float64(r.Hits)/float64(max(r.Reads, 1)))
	fmt.Fprintf(&b, "violations %d, lost %d\n", r.Violations, r.Lost)
	fmt.Fprintf(&b, "commit → acknowledged: p50 %.2f ms, p99 %.2f ms, max %.0f ms; unacknowledged %d", r.AckP50, r.AckP99, r.AckMax, r.Unacked)
	if r.Covered > 0 {
		fmt.Fprintf(&b, ", by a reset instead %d", r.Covered)
	}
	fmt.Fprintln(&b)
	fmt.Fprintf(&b, "stale reads %d; commit → stale read: p50 %.2f ms, p99 %.2f ms, max %.0f ms\n", r.Stale, r.StaleP50, r.StaleP99, r.StaleMax)
	if r.Forgotten > 0 {
		fmt.Fprintf(&b, "reads that missed what redis forgot: %d, until %.0f ms after\n", r.Forgotten, r.ForgotMax)
	}
	fmt.Fprintf(&b, "errors: %d writes, %d reads\n", r.WriteErrors, r.ReadErrors)
	for _, e := range r.Examples {
		fmt.Fprintln(&b, "violation:", e)
	}
	return b.String()
}

const (
	keepExamples = 5
	keepSamples  = 1 << 18 // past it every second sample is dropped
)

type collector struct {
	commits, reads, hits, unacked, violations, staleReads atomic.Uint64
	writeErrors, readErrors, forgotten, covered           atomic.Uint64

	mu       sync.Mutex
	forgets  time.Duration // the longest time after Redis forgot
	acks     samples
	stales   samples
	examples []string
}

// samples keeps a bounded, even selection of durations, and the greatest.
type samples struct {
	kept  []time.Duration
	every int
	n     int
	max   time.Duration
}

func (s *samples) add(d time.Duration) {
	s.max = max(s.max, d)
	s.every = max(s.every, 1)
	if s.n++; s.n%s.every != 0 {
		return
	}
	if len(s.kept) == keepSamples {
		for i := range keepSamples / 2 {
			s.kept[i] = s.kept[2*i]
		}
		s.kept = s.kept[:keepSamples/2]
		s.every *= 2
	}
	s.kept = append(s.kept, d)
}

func (s *samples) quantile(p float64) float64 {
	if len(s.kept) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.kept))
	return ms(sorted[min(len(sorted)-1, int(p*float64(len(sorted))))])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (c *collector) ack(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks.add(d)
}

func (c *collector) stale(d time.Duration) {
	c.staleReads.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stales.add(d)
}

func (c *collector) forgot(after time.Duration) {
	c.forgotten.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgets = max(c.forgets, after)
}

func (c *collector) violation(what string) {
	c.violations.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.examples) < keepExamples {
		c.examples = append(c.examples, what)
	}
}

func (c *collector) report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Report{
		Commits: c.commits.Load(), Reads: c.reads.Load(), Hits: c.hits.Load(), Violations: c.violations.Load(),
		Unacked: c.unacked.Load(), Stale: c.staleReads.Load(), WriteErrors: c.writeErrors.Load(), ReadErrors: c.readErrors.Load(),
		StaleP50: c.stales.quantile(.5), StaleP99: c.stales.quantile(.99), StaleMax: ms(c.stales.max),
		AckP50: c.acks.quantile(.5), AckP99: c.acks.quantile(.99), AckMax: ms(c.acks.max),
		Covered: c.covered.Load(), Forgotten: c.forgotten.Load(), ForgotMax: ms(c.forgets), Examples: c.examples,
	}
}
