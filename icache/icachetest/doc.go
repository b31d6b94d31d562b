// Package icachetest helps programs to test how they use a cache: that a page
// is cached at all, that it depends on what it shows, and that a change
// outdates it.
//
//	cache := icachetest.New(t)
//	shop := NewShop(db, cache)
//	page := func() error { _, err := shop.Page(ctx, 42); return err }
//
//	icachetest.RequireDependsOn(t, cache, page, "movie:42", "genres")
//	icachetest.RequireInvalidates(t, cache, func() error { return shop.Rename(ctx, 42, "Solaris") }, page)
//
// [New] needs no server: it starts one in this process (miniredis), which does
// everything that package icache asks of Redis but two things. It has no
// client tracking, so a cache with icache.WithTracking finds nothing locally;
// and its keys expire only when told to, so that no test depends on the time
// it takes. For a real Redis, and to test together with a running
// icache-agent, use [NewOn].
//
// What the functions of this package look at is the cache, not a call: they
// count everything that happens on it while they run. So each test takes a
// cache of its own, which costs a millisecond, and may then be parallel.
package icachetest
