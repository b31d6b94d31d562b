package icacheotel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icacheotel"
	"github.com/icache-go/icache-agent/icache/icachetest"
)

// lab is a Telemetry whose spans and metrics can be read.
type lab struct {
	*icacheotel.Telemetry
	spans  *tracetest.SpanRecorder
	tracer trace.Tracer
	reader *sdkmetric.ManualReader
}

func newLab(t *testing.T, opts ...icacheotel.Option) *lab {
	t.Helper()
	l := &lab{spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(l.spans))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(l.reader))
	l.tracer = tracers.Tracer("test")
	var err error
	l.Telemetry, err = icacheotel.New(append(opts, icacheotel.WithTracerProvider(tracers), icacheotel.WithMeterProvider(meters))...)
	require.NoError(t, err)
	return l
}

// metrics returns sums and, of histograms, counts, by name and attributes.
func (l *lab) metrics(t *testing.T) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, l.reader.Collect(context.Background(), &data))
	out := make(map[string]int64)
	for _, s := range data.ScopeMetrics {
		for _, m := range s.Metrics {
			name := func(set attribute.Set) string { return m.Name + " " + set.Encoded(attribute.DefaultEncoder()) }
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					out[name(p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					out[name(p.Attributes)] = int64(p.Count)
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					out[name(p.Attributes)] = int64(p.Count)
				}
			}
		}
	}
	return out
}

func attributes(s sdktrace.ReadOnlySpan) map[string]any {
	out := make(map[string]any)
	for _, a := range s.Attributes() {
		out[string(a.Key)] = a.Value.AsInterface()
	}
	return out
}

func fetch(ctx context.Context, c *icache.Cache, err error) error {
	_, err = icache.Fetch(ctx, c, "page", []string{"movie:42"}, func(context.Context) (string, error) {
		time.Sleep(time.Millisecond)
		return "Stalker", err
	})
	return err
}

func TestSpansAndMetrics(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := icachetest.New(t, icache.WithHooks(l.Hooks()))
	ctx, parent := l.tracer.Start(t.Context(), "request")
	require.NoError(t, fetch(ctx, c, nil))
	require.NoError(t, fetch(ctx, c, nil))
	require.NoError(t, c.Incr(ctx, "movie:42"))
	failed := errors.New("no database")
	require.ErrorIs(t, fetch(ctx, c, failed), failed)
	parent.End()
	require.NoError(t, fetch(t.Context(), c, nil)) // no trace, no span

	spans := l.spans.Ended()
	require.Len(t, spans, 5)
	miss, hit, incr, broken := spans[0], spans[1], spans[2], spans[3]
	for _, s := range spans[:4] {
		require.Equal(t, parent.SpanContext().SpanID(), s.Parent().SpanID())
		require.False(t, s.StartTime().Before(spans[4].StartTime()))
	}
	require.Equal(t, "icache fetch", miss.Name())
	a := attributes(miss)
	require.Equal(t, "page", a["icache.key"])
	require.Equal(t, "miss", a["icache.outcome"])
	require.Equal(t, icache.WhyAbsent, a["icache.why"])
	require.EqualValues(t, 3, a["icache.tokens"])
	require.EqualValues(t, 7, a["icache.payload.size"])
	require.GreaterOrEqual(t, a["icache.compute.duration"], 0.001)
	require.NotContains(t, a, "icache.token.names")
	require.GreaterOrEqual(t, miss.EndTime().Sub(miss.StartTime()), time.Millisecond)
	require.Equal(t, "hit", attributes(hit)["icache.outcome"])
	require.Contains(t, attributes(hit), "icache.age")
	require.Equal(t, "icache increment", incr.Name())
	require.Equal(t, codes.Unset, incr.Status().Code)
	require.Equal(t, codes.Error, broken.Status().Code)
	require.Equal(t, "no database", broken.Status().Description)

	m := l.metrics(t)
	require.EqualValues(t, 1, m["icache.fetches icache.outcome=hit,icache.why="])
	require.EqualValues(t, 1, m["icache.fetches icache.outcome=miss,icache.why=absent"])
	require.EqualValues(t, 1, m["icache.fetch.redis.duration icache.outcome=hit"])
	require.EqualValues(t, 2, m["icache.fetch.compute.duration icache.outcome=miss"])
	require.EqualValues(t, 1, m["icache.increments "])
	require.EqualValues(t, 1, m["icache.increment.duration "])
	for name := range m {
		require.NotContains(t, name, "42")
	}
}

func TestTokensOnRequest(t *testing.T) {
	t.Parallel()
	l := newLab(t, icacheotel.WithTokens())
	c := icachetest.New(t, icache.WithHooks(l.Hooks()))
	ctx, parent := l.tracer.Start(t.Context(), "request")
	require.NoError(t, fetch(ctx, c, nil))
	parent.End()
	require.Equal(t, []string{"*", "movie:*", "movie:42"}, attributes(l.spans.Ended()[0])["icache.token.names"])
}

// The hooks as icache calls them when things go wrong.
func TestFailures(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.Hooks()
	ctx, parent := l.tracer.Start(t.Context(), "request")
	tokens := []string{"a", "b", "c"}
	h.Incr(ctx, icache.IncrEvent{Tokens: tokens, Err: &icache.IncrError{Tokens: tokens[:1], Err: errors.New("no reply")}})
	h.Error(ctx, "store fragment", errors.New("no reply"))
	h.Mismatch(ctx, "page", []byte("secret"), nil)
	h.Fetch(ctx, icache.Event{Outcome: 200}) // unknown to this version
	parent.End()
	m := l.metrics(t)
	require.EqualValues(t, 2, m["icache.increments "])
	require.EqualValues(t, 1, m["icache.increment.failures "])
	require.EqualValues(t, 1, m["icache.errors icache.op=store fragment"])
	require.EqualValues(t, 1, m["icache.mismatches "])
	spans := l.spans.Ended()
	require.Len(t, spans, 2)
	require.Equal(t, codes.Error, spans[0].Status().Code)
	require.Len(t, spans[1].Events(), 2) // the error, the mismatch
}

// What a computation does belongs to the fetch that computes.
func TestSpansOfTheComputation(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := icachetest.New(t, icache.WithHooks(l.Hooks()))
	ctx, parent := l.tracer.Start(t.Context(), "request")
	_, err := icache.Fetch(ctx, c, "outer", []string{"movies"}, func(ctx context.Context) (string, error) {
		return "page", fetch(ctx, c, nil)
	})
	require.NoError(t, err)
	parent.End()
	spans := l.spans.Ended()
	require.Len(t, spans, 3)
	inner, outer := spans[0], spans[1]
	require.Equal(t, outer.SpanContext().SpanID(), inner.Parent().SpanID())
	require.Equal(t, parent.SpanContext().SpanID(), outer.Parent().SpanID())
	require.Equal(t, "outer", attributes(outer)["icache.key"])
	require.False(t, outer.EndTime().Before(inner.EndTime()))
	require.EqualValues(t, 2, l.metrics(t)["icache.fetches icache.outcome=miss,icache.why=absent"])
}
