// Package agent wires the parts of icache-agent together: the listener reads
// changes from Postgres, the mapping turns them into tokens, and the icache
// library bumps those tokens in Redis.
//
//	listener ── Change ──► applier ── tokens ──► icache.Cache ──► Redis
//	                          │
//	                          ├─► feed     recent changes: status page, /events, tail, demo
//	                          └─► metrics  Prometheus
//
// The applier acknowledges a batch to the listener only after Redis has
// acknowledged every token of it, so the cursor in Postgres never runs ahead of
// Redis: a crash at any point repeats bumps and loses none.
package agent
