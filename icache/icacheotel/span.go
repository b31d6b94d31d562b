package icacheotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/icache-go/icache-agent/icache"
)

func (t *Telemetry) traceFetch(ctx context.Context, e icache.Event) {
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
	t.span(ctx, "icache fetch", e.Redis+e.Compute, e.Tokens, e.Err, attrs)
}

func (t *Telemetry) traceIncr(ctx context.Context, e icache.IncrEvent) {
	t.span(ctx, "icache increment", e.Duration, e.Tokens, e.Err, nil)
}

// span makes a span that ends now.
func (t *Telemetry) span(ctx context.Context, name string, took time.Duration, tokens []string, err error, attrs []attribute.KeyValue) {
	end := time.Now()
	attrs = append(attrs, attribute.Int("icache.tokens", len(tokens)))
	if t.tokens {
		attrs = append(attrs, attribute.StringSlice("icache.token.names", tokens))
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(end.Add(-took)), trace.WithAttributes(attrs...))
	if err != nil {
		span.RecordError(err, trace.WithTimestamp(end))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End(trace.WithTimestamp(end))
}
