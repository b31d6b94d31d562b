// Package cdn purges what CDNs and HTTP caches hold of pages whose tokens have
// been bumped, by the keys that package httpcache writes into the responses.
//
// A [Purger] is told the tokens after Redis has acknowledged their bump. For
// each [Sink] it keeps the set of keys that are still to be purged, sends them in
// batches at the rate that the sink bears, and again a while after the sink has
// acknowledged them, for pages that were on their way to it at that moment.
//
// What has not been acknowledged for a few seconds is written to the table
// icache.purges, and [Purger.Oldest] tells until then how far the cursor of the
// listener may go. So a purge survives the process, at no cost while the sinks
// answer, and a sink that is down for hours holds nothing back. The memory, and
// the table, are bounded: past a number of keys their groups are purged, and past
// twice as many everything.
package cdn
