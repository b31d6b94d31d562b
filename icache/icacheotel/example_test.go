package icacheotel_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icacheotel"
)

func Example() {
	server, err := miniredis.Run() // stands for a Redis at localhost:6379
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	spans := tracetest.NewSpanRecorder() // stands for an exporter
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	telemetry, err := icacheotel.New(icacheotel.WithTracerProvider(provider))
	if err != nil {
		fmt.Println(err)
		return
	}
	cache, err := icache.New(rdb, icache.WithHooks(telemetry.Hooks()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()

	ctx, request := provider.Tracer("app").Start(context.Background(), "GET /movies/42")
	_, _ = icache.Fetch(ctx, cache, "title", []string{"movie:42"},
		func(context.Context) (string, error) { return "Stalker", nil })
	request.End()
	for _, s := range spans.Ended() {
		fmt.Println(s.Name())
	}
	// Output:
	// icache fetch
	// GET /movies/42
}
