package icacheotel

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/icache-go/icache-agent/icache"
)

const scope = "github.com/icache-go/icache-agent/icache/icacheotel"

const outcomes = int(icache.Degraded) + 1

// Telemetry makes the spans and metrics of icache caches. Make one with [New].
// It is safe for concurrent use, and for several caches, which it does not
// tell apart.
type Telemetry struct {
	tracer trace.Tracer
	tokens bool

	fetches      metric.Int64Counter
	redis        metric.Float64Histogram
	compute      metric.Float64Histogram
	bytes        metric.Int64Histogram
	incrs        metric.Int64Counter
	incrFailures metric.Int64Counter
	incrDuration metric.Float64Histogram
	errors       metric.Int64Counter
	mismatches   metric.Int64Counter

	// Made once: a local hit would notice.
	byOutcome [outcomes]metric.MeasurementOption
	hits      [outcomes]metric.MeasurementOption
}

// Option configures [New].
type Option func(*config)

type config struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
	tokens  bool
}

// WithTracerProvider sets the source of the tracer. Default is the global one
// of package otel.
func WithTracerProvider(p trace.TracerProvider) Option { return func(c *config) { c.tracers = p } }

// WithMeterProvider sets the source of the meter. Default is the global one of
// package otel.
func WithMeterProvider(p metric.MeterProvider) Option { return func(c *config) { c.meters = p } }

// WithTokens records the tokens themselves in spans, as icache.token.names.
func WithTokens() Option { return func(c *config) { c.tokens = true } }

// New returns a Telemetry. The error is the meter's, which refuses an
// instrument.
func New(opts ...Option) (*Telemetry, error) {
	cfg := config{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider()}
	for _, o := range opts {
		o(&cfg)
	}
	t := &Telemetry{tracer: cfg.tracers.Tracer(scope), tokens: cfg.tokens}
	if err := t.instruments(cfg.meters.Meter(scope)); err != nil {
		return nil, fmt.Errorf("icacheotel: %w", err)
	}
	for i := range outcomes {
		outcome := attribute.String("icache.outcome", icache.Outcome(i).String())
		t.byOutcome[i] = metric.WithAttributeSet(attribute.NewSet(outcome))
		t.hits[i] = metric.WithAttributeSet(attribute.NewSet(outcome, attribute.String("icache.why", "")))
	}
	return t, nil
}

// Buckets in seconds and in bytes: those that a meter takes by default are for
// milliseconds.
var (
	seconds = metric.WithExplicitBucketBoundaries(50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10)
	sizes   = metric.WithExplicitBucketBoundaries(256, 1<<10, 1<<12, 1<<14, 1<<16, 1<<18, 1<<20, 1<<22)
)

func (t *Telemetry) instruments(m metric.Meter) error {
	var errs [9]error
	t.fetches, errs[0] = m.Int64Counter("icache.fetches", metric.WithUnit("{fetch}"),
		metric.WithDescription("Fetches of fragments, by how they were answered and why that was not a hit."))
	t.redis, errs[1] = m.Float64Histogram("icache.fetch.redis.duration", metric.WithUnit("s"), seconds,
		metric.WithDescription("Time a fetch spent on Redis, or waiting for another caller, before the answer or the computation."))
	t.compute, errs[2] = m.Float64Histogram("icache.fetch.compute.duration", metric.WithUnit("s"), seconds,
		metric.WithDescription("Time a fetch spent computing."))
	t.bytes, errs[3] = m.Int64Histogram("icache.fetch.payload.size", metric.WithUnit("By"), sizes,
		metric.WithDescription("Size of the payloads of fetches, not compressed."))
	t.incrs, errs[4] = m.Int64Counter("icache.increments", metric.WithUnit("{token}"),
		metric.WithDescription("Tokens incremented by this program and acknowledged by Redis."))
	t.incrFailures, errs[5] = m.Int64Counter("icache.increment.failures", metric.WithUnit("{token}"),
		metric.WithDescription("Tokens whose increment Redis has not acknowledged."))
	t.incrDuration, errs[6] = m.Float64Histogram("icache.increment.duration", metric.WithUnit("s"), seconds,
		metric.WithDescription("Time of one call that increments tokens."))
	t.errors, errs[7] = m.Int64Counter("icache.errors", metric.WithUnit("{error}"),
		metric.WithDescription("Errors that no caller gets to see."))
	t.mismatches, errs[8] = m.Int64Counter("icache.mismatches", metric.WithUnit("{fragment}"),
		metric.WithDescription("Fragments that were not what their computation yields, found by WithVerify."))
	return errors.Join(errs[:]...)
}

// Hooks returns what icache.WithHooks wants.
func (t *Telemetry) Hooks() icache.Hooks {
	return icache.Hooks{Fetch: t.fetch, Compute: t.computing, Incr: t.incr, Error: t.error, Mismatch: t.mismatch}
}

func (t *Telemetry) fetch(ctx context.Context, e icache.Event) {
	if int(e.Outcome) >= outcomes {
		return // of a later version of icache
	}
	t.measure(ctx, e)
	if trace.SpanContextFromContext(ctx).IsValid() {
		t.traceFetch(ctx, e)
	}
}

func (t *Telemetry) measure(ctx context.Context, e icache.Event) {
	o := t.byOutcome[e.Outcome]
	if e.Why == "" {
		t.fetches.Add(ctx, 1, t.hits[e.Outcome])
	} else {
		t.fetches.Add(ctx, 1, o, metric.WithAttributes(attribute.String("icache.why", e.Why)))
	}
	if e.Redis > 0 { // not for hits that did not ask it
		t.redis.Record(ctx, e.Redis.Seconds(), o)
	}
	if e.Compute > 0 {
		t.compute.Record(ctx, e.Compute.Seconds(), o)
	}
	t.bytes.Record(ctx, int64(e.Bytes), o)
}

// Error and Mismatch have contexts that may have ended, which the API allows.

func (t *Telemetry) error(ctx context.Context, op string, err error) {
	t.errors.Add(ctx, 1, metric.WithAttributes(attribute.String("icache.op", op)))
	trace.SpanFromContext(ctx).RecordError(err, trace.WithAttributes(attribute.String("icache.op", op)))
}

func (t *Telemetry) mismatch(ctx context.Context, key string, _, _ []byte) {
	t.mismatches.Add(ctx, 1)
	trace.SpanFromContext(ctx).AddEvent("icache mismatch", trace.WithAttributes(attribute.String("icache.key", key)))
}

func (t *Telemetry) incr(ctx context.Context, e icache.IncrEvent) {
	failed := 0
	if e.Err != nil {
		failed = len(e.Tokens)
		if partial, ok := errors.AsType[*icache.IncrError](e.Err); ok {
			failed = len(partial.Tokens)
		}
	}
	t.incrs.Add(ctx, int64(len(e.Tokens)-failed))
	t.incrFailures.Add(ctx, int64(failed))
	t.incrDuration.Record(ctx, e.Duration.Seconds())
	if trace.SpanContextFromContext(ctx).IsValid() {
		t.traceIncr(ctx, e)
	}
}
