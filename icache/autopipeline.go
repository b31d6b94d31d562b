package icache

import "github.com/redis/go-redis/v9"

// WithAutoPipeline sends the reads of concurrent calls together, through the
// automatic pipelining of go-redis: several times the throughput at high
// concurrency, some latency at low. It is experimental in go-redis and so it is
// here; nothing but this option depends on it. [Cache.Close] ends it: a Fetch
// that comes later computes, uncached.
func WithAutoPipeline() Option { return func(c *config) { c.autoPipeline = true } }

// autoPipeline routes reads through an automatic pipeline. close ends it.
func (s *server) autoPipeline() (closeFunc func() error, err error) {
	client, ok := s.rdb.(*redis.Client)
	if !ok || s.limit.timeout <= 0 {
		ap, err := s.read.AutoPipeline()
		if err != nil {
			return nil, err
		}
		s.reads = ap
		return ap.Close, nil
	}
	ap, err := client.WithTimeout(s.limit.timeout).AutoPipeline()
	if err != nil {
		return nil, err
	}
	// Hooks see the command of each caller, in its context. Those of the
	// pipeline itself would be made anew for each batch.
	s.reads = withTimeout(client, s.limit.timeout, innermost{process: ap.Process})
	return ap.Close, nil
}
