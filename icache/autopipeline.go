package icache

// WithAutoPipeline sends the reads of concurrent calls together, through the
// automatic pipelining of go-redis: several times the throughput at high
// concurrency, some latency at low. It is experimental in go-redis and so it is
// here; nothing but this option depends on it. [Cache.Close] ends it: a Fetch
// that comes later computes, uncached.
func WithAutoPipeline() Option { return func(c *config) { c.autoPipeline = true } }

// autoPipeline routes reads through an automatic pipeline. close ends it.
func (s *server) autoPipeline() (closeFunc func() error, err error) {
	ap, err := s.read.AutoPipeline()
	if err != nil {
		return nil, err
	}
	s.reads = ap
	return ap.Close, nil
}
