package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/icache-go/icache-agent/internal/cdn"
)

// cdnCollector turns the state of the CDNs into metrics at scrape time.
type cdnCollector struct{ status func() []cdn.Status }

type cdnMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(cdn.Status) float64
}

func cdnMetricOf(name, help string, kind prometheus.ValueType, value func(cdn.Status) float64) cdnMetric {
	return cdnMetric{prometheus.NewDesc("icache_cdn_"+name, help, []string{"cdn"}, nil), kind, value}
}

var cdnMetrics = []cdnMetric{
	cdnMetricOf("pending_keys", "Keys that are to be purged at the CDN, or purged again.", prometheus.GaugeValue,
		func(s cdn.Status) float64 { return float64(s.Pending) }),
	cdnMetricOf("oldest_pending_timestamp_seconds", "Since when the oldest of them has been, 0 if there is none.", prometheus.GaugeValue,
		func(s cdn.Status) float64 { return unixSeconds(s.Oldest) }),
	cdnMetricOf("purged_keys_total", "Keys whose purge the CDN has acknowledged, repetitions included.", prometheus.CounterValue,
		func(s cdn.Status) float64 { return float64(s.Purged) }),
	cdnMetricOf("requests_total", "Requests that the CDN has acknowledged.", prometheus.CounterValue,
		func(s cdn.Status) float64 { return float64(s.Requests) }),
	cdnMetricOf("failures_total", "Requests that failed and are repeated.", prometheus.CounterValue,
		func(s cdn.Status) float64 { return float64(s.Failures) }),
	cdnMetricOf("last_success_timestamp_seconds", "When the CDN last acknowledged a request, 0 if it has not yet.", prometheus.GaugeValue,
		func(s cdn.Status) float64 { return unixSeconds(s.LastSuccess) }),
}

// Describe implements [prometheus.Collector].
func (c *cdnCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range cdnMetrics {
		ch <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *cdnCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.status() {
		for _, m := range cdnMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), s.Name)
		}
	}
}
