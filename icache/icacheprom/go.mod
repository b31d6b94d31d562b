// Prometheus metrics for package icache. A module of its own, so that programs
// that do not use them do not inherit the dependency.
module github.com/icache-go/icache-agent/icache/icacheprom

go 1.26.0

require (
	github.com/icache-go/icache-agent v0.0.0
	github.com/prometheus/client_golang v1.25.0
	github.com/stretchr/testify v1.12.1
)

replace github.com/icache-go/icache-agent => ../..
