package icacheotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/icache-go/icache-agent/icache"
)

const fetchSpan = "icache fetch"

func (t *Telemetry) traceFetch(ctx context.Context, e icache.Event) {
	t.span(ctx, fetchSpan, e.Redis+e.Compute, e.Tokens, e.Err, fetchAttributes(e))
}

// computing starts the span of a fetch that computes, so that those of the
// computation become its children.
func (t *Telemetry) computing(ctx context.Context, e icache.Event) (context.Context, func(icache.Event)) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, fetchSpan, trace.WithTimestamp(time.Now().Add(-e.Redis)))
	return ctx, func(e icache.Event) {
		if int(e.Outcome) < outcomes {
			t.measure(ctx, e)
		}
		t.end(span, time.Now(), e.Tokens, e.Err, fetchAttributes(e))
	}
}

func fetchAttributes(e icache.Event) []attribute.KeyValue {
	attrs := append(make([]attribute.KeyValue, 0, 8),
		attribute.String("icache.key", e.Key),
		attribute.String("icache.outcome", e.Outcome.String()),
		attribute.Int("icache.payload.size", e.Bytes),
	)
	if e.Why != "" {
		attrs = append(attrs, attribute.String("icache.why", e.Why))
	}
	if e.Outcome.Served() && e.Age > 0 {
		attrs = append(attrs, attribute.Float64("icache.age", e.Age.Seconds()))
	}
	if e.Compute > 0 {
		attrs = append(attrs, attribute.Float64("icache.compute.duration", e.Compute.Seconds()))
	}
	return attrs
}

func (t *Telemetry) traceIncr(ctx context.Context, e icache.IncrEvent) {
	t.span(ctx, "icache increment", e.Duration, e.Tokens, e.Err, nil)
}

// span makes a span that ends now.
func (t *Telemetry) span(ctx context.Context, name string, took time.Duration, tokens []string, err error, attrs []attribute.KeyValue) {
	end := time.Now()
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(end.Add(-took)))
	t.end(span, end, tokens, err, attrs)
}

func (t *Telemetry) end(span trace.Span, at time.Time, tokens []string, err error, attrs []attribute.KeyValue) {
	attrs = append(attrs, attribute.Int("icache.tokens", len(tokens)))
	if t.tokens {
		attrs = append(attrs, attribute.StringSlice("icache.token.names", tokens))
	}
	span.SetAttributes(attrs...)
	if err != nil {
		span.RecordError(err, trace.WithTimestamp(at))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End(trace.WithTimestamp(at))
}
