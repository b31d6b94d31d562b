// Package icacheotel traces and measures what package icache does, through the
// API of OpenTelemetry.
//
//	telemetry, err := icacheotel.New() // otel.GetTracerProvider, otel.GetMeterProvider
//	cache, err := icache.New(rdb, icache.WithHooks(telemetry.Hooks()))
//
// # Spans
//
// A fetch, or an increment, becomes a span in the trace of its context, and no
// span if that has none. The spans of what a computation does are children of
// its fetch, but for FetchMany, where they are siblings.
//
//	icache fetch       icache.key, icache.outcome, icache.why, icache.tokens (their number),
//	                   icache.payload.size, icache.age, icache.compute.duration (seconds)
//	icache increment   icache.tokens
//
// An error of Redis or of the computation is recorded and sets the status.
// Tokens are not recorded by name unless [WithTokens] says so, because they may
// hold names of persons.
//
// # Metrics
//
//	icache.fetches                  {fetch}     counter    icache.outcome, icache.why
//	icache.fetch.redis.duration     s           histogram  icache.outcome; not of hits that did not ask Redis
//	icache.fetch.compute.duration   s           histogram  icache.outcome, if there was a computation
//	icache.fetch.payload.size       By          histogram  icache.outcome
//	icache.increments               {token}     counter    acknowledged by Redis
//	icache.increment.failures       {token}     counter    not acknowledged
//	icache.increment.duration       s           histogram
//	icache.errors                   {error}     counter    icache.op: errors that no caller gets to see
//	icache.mismatches               {fragment}  counter    found by icache.WithVerify
//
// No attribute of a metric is a key or a token. The package needs only the
// API of OpenTelemetry; which SDK records all this, if any, is up to the
// program.
package icacheotel
