package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/icache-go/icache-agent/listener"
	"github.com/icache-go/icache-agent/mapping"
)

// metrics holds what the agent counts itself; what the listener knows is read
// from its statistics at scrape time. Labels are tables named in the config and
// operations, never tokens or keys.
type metrics struct {
	registry *prometheus.Registry

	changes     *prometheus.CounterVec
	batches     prometheus.Counter
	acked       prometheus.Counter
	bumps       prometheus.Counter
	bumpErrors  prometheus.Counter
	bumpSeconds prometheus.Histogram
	invalid     prometheus.Counter
	resets      prometheus.Counter
	replays     prometheus.Counter
	redisUp     prometheus.Gauge
	reloadOK    prometheus.Gauge
	reloadTime  prometheus.Gauge
	due         prometheus.Gauge
	unsettled   prometheus.Gauge
	settled     prometheus.Counter

	renewals prometheus.Counter

	byTable map[tableOp]prometheus.Counter // resolved once: WithLabelValues hashes on every call
}

type tableOp struct {
	table string
	op    byte
}

func newMetrics(version string, stats func() listener.Stats) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "icache_changes_total", Help: "Outbox rows read, by table and operation."}, []string{"table", "op"}),
		batches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_batches_total", Help: "Batches acknowledged by Redis."}),
		acked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_changes_acknowledged_total", Help: "Outbox rows whose tokens Redis has acknowledged."}),
		bumps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_tokens_bumped_total", Help: "Tokens bumped in Redis, repetitions included."}),
		bumpErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_bump_errors_total", Help: "Attempts to bump tokens that failed and were repeated."}),
		bumpSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "icache_bump_duration_seconds", Help: "Time Redis took to acknowledge one batch of tokens.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12)}),
		invalid: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_changes_invalid_total", Help: "Outbox rows whose keys could not be read; the whole table was bumped."}),
		resets: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_generation_bumps_total", Help: "Times every fragment was outdated because continuity could not be proved."}),
		replays: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_redis_replays_total", Help: "Times recent tokens were bumped again after a restart or failover of Redis."}),
		redisUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "icache_redis_up", Help: "1 while Redis answers."}),
		reloadOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "icache_config_last_reload_successful", Help: "1 if the config was good when it was last read, 0 if the rules of before stay."}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "icache_config_last_reload_success_timestamp_seconds", Help: "When the config in use was read."}),
		unsettled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "icache_settle_pending_tokens", Help: "Tokens that wait to be bumped once more (settle)."}),
		settled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_settle_tokens_bumped_total", Help: "Tokens bumped once more (settle)."}),
		due: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "icache_migration_due_tables", Help: "Tables whose installed triggers do not record what the rules need."}),
		renewals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "icache_lease_renewals_total", Help: "Times the lease of the guard was renewed by this agent."}),
		byTable: make(map[tableOp]prometheus.Counter),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "icache_build_info", Help: "Always 1; the version is a label.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.changes, m.batches, m.acked, m.bumps, m.bumpErrors, m.bumpSeconds, m.invalid, m.resets, m.replays, m.redisUp, m.reloadOK, m.reloadTime, m.due, m.unsettled, m.settled, m.renewals, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&listenerCollector{stats: stats})
	return m
}

// change counts one outbox row. Called from the listener's goroutine only.
func (m *metrics) change(table string, op byte) {
	k := tableOp{table, op}
	c, ok := m.byTable[k]
	if !ok {
		c = m.changes.WithLabelValues(table, mapping.Op(op).String())
		m.byTable[k] = c
	}
	c.Inc()
}

func (m *metrics) applied(n int) {
	m.batches.Inc()
	m.acked.Add(float64(n))
}

func (m *metrics) reloaded() {
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
}
