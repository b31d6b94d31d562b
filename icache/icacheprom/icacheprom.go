package icacheprom

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/icache-go/icache-agent/icache"
)

const outcomes = int(icache.Degraded) + 1

// Metrics are the metrics of one icache.Cache, and a prometheus.Collector. Make
// one with [New]. It is safe for concurrent use.
type Metrics struct {
	fetches *prometheus.CounterVec
	redis   *prometheus.HistogramVec
	compute *prometheus.HistogramVec
	bytes   *prometheus.HistogramVec

	incrs        prometheus.Counter
	incrFailures prometheus.Counter
	incrUnlinked prometheus.Counter
	incrDuration prometheus.Histogram
	errors       *prometheus.CounterVec
	mismatches   prometheus.Counter

	collectors []prometheus.Collector

	// Resolved once: WithLabelValues hashes, which a local hit would notice.
	hits           [outcomes]prometheus.Counter
	redisByOutcome [outcomes]prometheus.Observer
	bytesByOutcome [outcomes]prometheus.Observer
}

// Option configures [New].
type Option func(*config)

type config struct {
	durations []float64
	sizes     []float64
}

// WithDurationBuckets sets the buckets of the durations, in seconds. Default is
// from 50 µs to 10 s.
func WithDurationBuckets(seconds ...float64) Option {
	return func(c *config) { c.durations = seconds }
}

// WithSizeBuckets sets the buckets of the sizes, in bytes. Default is from
// 256 B to 4 MiB.
func WithSizeBuckets(bytes ...float64) Option { return func(c *config) { c.sizes = bytes } }

// New returns metrics that are all zero and not registered yet.
func New(opts ...Option) *Metrics {
	cfg := config{
		durations: []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10},
		sizes:     prometheus.ExponentialBuckets(256, 4, 8),
	}
	for _, o := range opts {
		o(&cfg)
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: name, Help: help}
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
	}
	byOutcome := []string{"outcome"}
	m := &Metrics{
		fetches: prometheus.NewCounterVec(counter("icache_fetches_total",
			"Fetches of fragments, by how they were answered and why that was not a hit."), []string{"outcome", "why"}),
		redis: prometheus.NewHistogramVec(histogram("icache_fetch_redis_duration_seconds",
			"Time a fetch spent on Redis, or waiting for another caller, before the answer or the computation.", cfg.durations), byOutcome),
		compute: prometheus.NewHistogramVec(histogram("icache_fetch_compute_duration_seconds",
			"Time a fetch spent computing.", cfg.durations), byOutcome),
		bytes: prometheus.NewHistogramVec(histogram("icache_fetch_payload_bytes",
			"Size of the payloads of fetches, not compressed.", cfg.sizes), byOutcome),
		incrs: prometheus.NewCounter(counter("icache_increments_total",
			"Tokens incremented by this program and acknowledged by Redis.")),
		incrFailures: prometheus.NewCounter(counter("icache_increment_failures_total",
			"Tokens whose increment Redis has not acknowledged.")),
		incrUnlinked: prometheus.NewCounter(counter("icache_increment_unlinked_total",
			"Tokens deleted instead of incremented, because Redis was out of memory.")),
		incrDuration: prometheus.NewHistogram(histogram("icache_increment_duration_seconds",
			"Time of one call that increments tokens.", cfg.durations)),
		errors: prometheus.NewCounterVec(counter("icache_errors_total",
			"Errors that no caller gets to see."), []string{"op"}),
		mismatches: prometheus.NewCounter(counter("icache_mismatches_total",
			"Fragments that were not what their computation yields, found by WithVerify.")),
	}
	m.collectors = []prometheus.Collector{
		m.fetches, m.redis, m.compute, m.bytes,
		m.incrs, m.incrFailures, m.incrUnlinked, m.incrDuration, m.errors, m.mismatches,
	}
	for i := range outcomes {
		outcome := icache.Outcome(i).String()
		m.redisByOutcome[i] = m.redis.WithLabelValues(outcome)
		m.bytesByOutcome[i] = m.bytes.WithLabelValues(outcome)
		if icache.Outcome(i).Served() {
			m.hits[i] = m.fetches.WithLabelValues(outcome, "")
		}
	}
	return m
}

// Hooks returns what icache.WithHooks wants.
func (m *Metrics) Hooks() icache.Hooks {
	return icache.Hooks{
		Fetch:    m.fetch,
		Incr:     m.incr,
		Error:    func(_ context.Context, op string, _ error) { m.errors.WithLabelValues(op).Inc() },
		Mismatch: func(context.Context, string, []byte, []byte) { m.mismatches.Inc() },
	}
}

func (m *Metrics) fetch(_ context.Context, e icache.Event) {
	o := e.Outcome
	if int(o) >= outcomes {
		return // of a later version of icache
	}
	if m.hits[o] != nil && e.Why == "" {
		m.hits[o].Inc()
	} else {
		m.fetches.WithLabelValues(o.String(), e.Why).Inc()
	}
	if e.Redis > 0 { // not for hits that did not ask it
		m.redisByOutcome[o].Observe(e.Redis.Seconds())
	}
	m.bytesByOutcome[o].Observe(float64(e.Bytes))
	if e.Compute > 0 {
		m.compute.WithLabelValues(o.String()).Observe(e.Compute.Seconds())
	}
}

func (m *Metrics) incr(_ context.Context, e icache.IncrEvent) {
	failed := 0
	if e.Err != nil {
		failed = len(e.Tokens)
		if partial, ok := errors.AsType[*icache.IncrError](e.Err); ok {
			failed = len(partial.Tokens)
		}
	}
	m.incrFailures.Add(float64(failed))
	m.incrs.Add(float64(len(e.Tokens) - failed))
	m.incrUnlinked.Add(float64(e.Unlinked))
	m.incrDuration.Observe(e.Duration.Seconds())
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors {
		c.Collect(ch)
	}
}
