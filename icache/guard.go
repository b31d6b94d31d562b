package icache

// WithGuard makes the cache trust fragments only while the agent's lease is in
// Redis. The agent renews it as long as a change travels the whole way from
// the database to Redis; when it is stopped, stuck or cut off, the lease lapses
// and every Fetch computes. So no fragment is served later than the lease's
// time to live after the commit that outdated it. The lease is read in the
// same round trip as the tokens.
func WithGuard() Option { return func(c *config) { c.guard = true } }

func (c *Cache) guardKey() string { return c.cfg.prefix + "lease" }
