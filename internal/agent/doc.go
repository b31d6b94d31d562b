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
//
// Rules may be replaced while it runs; see [Agent.Reload]. The listener keeps a
// mark of every rule beside its cursor, on the connection that holds the leader
// lock. Before changes are applied by a rule that is not the one of before, here
// or in another process, all that it may have missed is outdated once.
//
// Tokens of a rule with settle are bumped a second time, later. Until that has
// been acknowledged, the saved cursor stays behind: a successor does it again.
package agent
