// OpenTelemetry traces and metrics for package icache. A module of its own, so
// that programs that do not use them do not inherit the dependency.
module github.com/icache-go/icache-agent/icache/icacheotel

go 1.26.0

require (
	github.com/icache-go/icache-agent v0.0.0
	github.com/stretchr/testify v1.12.1
	go.opentelemetry.io/otel v1.47.0
	go.opentelemetry.io/otel/metric v1.47.0
	go.opentelemetry.io/otel/sdk v1.47.0
	go.opentelemetry.io/otel/sdk/metric v1.47.0
	go.opentelemetry.io/otel/trace v1.47.0
)

replace github.com/icache-go/icache-agent => ../..
