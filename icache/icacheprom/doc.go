// Package icacheprom counts and times what package icache does, for Prometheus.
//
//	metrics := icacheprom.New()
//	prometheus.MustRegister(metrics)
//	cache, err := icache.New(rdb, icache.WithHooks(metrics.Hooks()))
//
// The metrics are
//
//	icache_fetches_total{outcome,why}               counter
//	icache_fetch_redis_duration_seconds{outcome}    histogram; not of hits that did not ask Redis
//	icache_fetch_compute_duration_seconds{outcome}  histogram, if there was a computation
//	icache_fetch_payload_bytes{outcome}             histogram
//	icache_increments_total                         counter, of tokens
//	icache_increment_failures_total                 counter, of tokens that were not acknowledged
//	icache_increment_unlinked_total                 counter, of tokens deleted instead, because Redis was full
//	icache_increment_duration_seconds               histogram, of calls
//	icache_errors_total{op}                         counter, of errors that no caller gets to see
//	icache_mismatches_total                         counter, of fragments that icache.WithVerify found wrong
//
// outcome is the text of an icache.Outcome, why one of the constants
// icache.WhyAbsent, …, or empty. There is no label for keys or tokens, because
// there may be any number of them; what one of them does is to be seen in a
// trace (package icacheotel). The hit ratio is
//
//	sum(rate(icache_fetches_total{outcome=~"hit.*|shared|stale"}[5m])) / sum(rate(icache_fetches_total[5m]))
//
// For several caches in one program make a [Metrics] for each and register them
// with prometheus.WrapRegistererWith and a label that tells them apart.
package icacheprom
