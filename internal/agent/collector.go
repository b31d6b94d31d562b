package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/icache-go/icache-agent/listener"
)

// listenerCollector turns the listener's statistics into metrics at scrape time.
type listenerCollector struct{ stats func() listener.Stats }

type listenerMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(listener.Stats) float64
}

func metric(name, help string, kind prometheus.ValueType, value func(listener.Stats) float64) listenerMetric {
	return listenerMetric{prometheus.NewDesc("icache_"+name, help, nil, nil), kind, value}
}

var listenerMetrics = []listenerMetric{
	metric("listener_leader", "1 while this agent applies changes, 0 while it stands by.", prometheus.GaugeValue,
		func(s listener.Stats) float64 { return boolValue(s.Leader) }),
	metric("listener_asleep", "1 while the agent waits for the doorbell.", prometheus.GaugeValue,
		func(s listener.Stats) float64 { return boolValue(s.State == listener.StateAsleep) }),
	metric("listener_connects_total", "Connections made to Postgres.", prometheus.CounterValue,
		func(s listener.Stats) float64 { return float64(s.Connects) }),
	metric("listener_polls_total", "Times the outbox was read.", prometheus.CounterValue,
		func(s listener.Stats) float64 { return float64(s.Polls) }),
	metric("listener_bells_total", "Notifications received.", prometheus.CounterValue,
		func(s listener.Stats) float64 { return float64(s.Bells) }),
	metric("listener_handler_errors_total", "Batches that failed and were repeated.", prometheus.CounterValue,
		func(s listener.Stats) float64 { return float64(s.HandlerErrors) }),
	metric("listener_last_poll_timestamp_seconds", "When the outbox was last read.", prometheus.GaugeValue,
		func(s listener.Stats) float64 { return unixSeconds(s.LastPoll) }),
	metric("listener_last_change_timestamp_seconds", "When a change was last dealt with.", prometheus.GaugeValue,
		func(s listener.Stats) float64 { return unixSeconds(s.LastChange) }),
	metric("outbox_bytes", "Size of both outbox tables.", prometheus.GaugeValue,
		func(s listener.Stats) float64 { return float64(s.OutboxBytes) }),
	metric("outbox_rotations_total", "Times an outbox table was emptied.", prometheus.CounterValue,
		func(s listener.Stats) float64 { return float64(s.Rotations) }),
	metric("outbox_overflow", "1 while changes go unrecorded because the outbox has reached its limit.", prometheus.GaugeValue,
		func(s listener.Stats) float64 { return boolValue(s.Overflow) }),
}

var unknownKeys = prometheus.NewDesc("icache_changes_unknown_keys_total",
	"Changes other than TRUNCATE recorded without keys: bulk statements, or a rule that no longer fits its table.", []string{"table"}, nil)

// Describe implements [prometheus.Collector].
func (c *listenerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range listenerMetrics {
		ch <- m.desc
	}
	ch <- unknownKeys
}

// Collect implements [prometheus.Collector].
func (c *listenerCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for _, m := range listenerMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
	for name, t := range s.Tables {
		ch <- prometheus.MustNewConstMetric(unknownKeys, prometheus.CounterValue, float64(t.Unknown), name)
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
