// Package icache caches fragments (HTML, JSON, any bytes) in Redis without
// timeouts.
//
// A fragment names the tokens it depends on, such as "movies" or "movie:42". A
// token is an integer in Redis. The version of a fragment is the sum of its
// tokens, and a stored fragment is served only while its version is the current
// sum. Whoever changes the data increments the tokens, after the commit:
// [Cache.Incr], or icache-agent, which does it for every change of a mapped
// table in Postgres, whoever made it.
//
//	c, err := icache.New(redis.NewClient(&redis.Options{Addr: "localhost:6379"}))
//	…
//	movie, err := icache.Fetch(ctx, c, "movie", []string{"movie:42"},
//		func(ctx context.Context) (Movie, error) { return loadMovie(ctx, 42) })
//
// [Fetch] is what most programs need. [FetchMany] does it for a batch,
// [Cache.WriteTo] for a stream, [Cache.Begin] for code that cannot be put into
// a function. [Depend] adds a token found on the way; a Fetch inside another
// adds its tokens to the outer one by itself, if it is given the context that
// the outer one's function got. [Cache.GetSum], [Cache.SetVersioned] and
// [Cache.GetVersioned] are the steps of which Fetch is made. Package icachetest
// helps to test what depends on what; icacheprom and icacheotel, modules of
// their own, count and trace.
//
// # What it guarantees
//
// A call that starts after an increment was acknowledged never yields a value
// computed from data read before that increment. That holds whatever the timing
// of readers and writers, and when Redis evicts tokens or fragments, is flushed,
// or starts anew empty: losing something costs a computation and nothing else.
//
// It needs three things of the application. Increments come after the commit,
// and are repeated until they are acknowledged. The computation names its tokens
// before it reads the data. And it reads current data: not from a snapshot
// older than the call, not from its own uncommitted changes ([Bypass] is for
// both), and not from a replica that lags ([Holdoff]).
//
// Some options trade the guarantee for speed and say so: [Stale],
// [StaleOnError], [WithTracking], [Pin], [ReadAhead], [WithLegacyCounters].
//
// What it cannot do: bring back an increment that Redis has acknowledged and
// then lost, as asynchronous replication may when a replica is promoted. The
// agent repeats its latest increments then. While the agent is down nothing is
// incremented; [WithGuard] notices.
//
// # Why it holds
//
// The values that a token has had in Redis, one after the other, only grow.
// An increment makes a value greater. A token that was lost is created again
// by the first reader that misses it, never as 0 but with the time of the
// server in microseconds, and increments move values up to that time as well;
// and since a server's clock may be set back, a key beside the tokens keeps the
// latest time that was given out.
//
// A reader reads its tokens after its call has started. The version under which
// a fragment was stored is the sum of values that were read before the data.
// Suppose the two sums are equal. If every token was read for the store before
// it was read for the call, no term of the second sum is smaller, because
// values only grow; so, the sums being equal, every term is. No token was
// incremented between the reading before the data and the call, and thus every
// increment acknowledged before the call is in the data.
//
// Otherwise some token was read for the store after it was read for the call.
// Then all the data were read after the call had started, since all tokens are
// read before any data, and again every such increment is in them. So the
// tokens need not be read at one moment, nor from one server. Tokens found on
// the way ([Depend], nested fragments) are read for the store later than some of
// the data; so for a call they are read together with the fragment or after it,
// never before.
//
// Sums wrap around at 2^64, which is harmless: they would have to grow by a
// multiple of that exactly. The tests of this package try every interleaving of
// small models of the protocol, of Pin, Stale, leases and tracking too, and find
// each of 27 plausible variants wrong, among them: absent tokens
// that count 0, versions read after the data, and waiting for a computation that
// is under way for another version.
// docs/protocol.md states the protocol for other languages.
//
// # What depends on what
//
// Every fragment depends on the generation "*", and on the group of each token:
// "movie:*" for "movie:42" (see [Group]). So one increment outdates all movies,
// or everything.
//
// # Failures
//
// If Redis fails or does not answer in time ([WithTimeout]), Fetch computes and
// returns the value uncached. After three failures in a row it asks Redis once a
// second until it answers. [WithFallbackLimit] keeps the database from being
// overrun meanwhile. [Hooks] and [Cache.Stats] show it.
//
// # Redis
//
// Redis 6.2 or later and Valkey: a single server, Sentinel, or Cluster. Any
// eviction policy will do. The [redis.Client] keeps its own timeouts for
// increments; Fetch uses its connections with [WithTimeout]. Hooks of the client
// (tracing, metrics) see the commands of both if they are added before [New].
package icache
