package icache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Option configures a [Cache]. See [New].
type Option func(*config)

// AbsentTokens says what an increment does with a token that is not in Redis.
type AbsentTokens uint8

const (
	// AbsentCreate creates it. Safe for every reader, whatever it makes of an
	// absent token. The default.
	AbsentCreate AbsentTokens = iota
	// AbsentSkip leaves it alone, so that changes of rows that nobody has
	// cached cost no memory. Safe if every reader creates the tokens it
	// misses before it reads data, as this package does: then no stored
	// fragment can depend on an absent token.
	AbsentSkip
)

type config struct {
	absent        AbsentTokens
	autoPipeline  bool
	defaults      fetchConfig
	epoch         string
	fallbackLimit int
	guard         bool
	guardGrace    time.Duration
	hooks         []Hooks
	legacy        bool
	payloadBytes  int64
	prefix        string
	timeout       time.Duration
	tokenKey      string
	tokenTTL      time.Duration
	tracking      time.Duration
	verify        float64

	errs []error
}

func defaultConfig() config {
	return config{
		prefix:  "icache:",
		timeout: 100 * time.Millisecond,
		defaults: fetchConfig{
			codec:     JSON,
			leaseTTL:  3 * time.Second,
			leaseWait: time.Second,
		},
	}
}

func (c *config) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("icache: "+format, args...))
}

func (c *config) err() error { return errors.Join(c.errs...) }

// WithAbsentTokens says what [Cache.Incr] does with tokens that are not in
// Redis. Default is AbsentCreate.
func WithAbsentTokens(a AbsentTokens) Option { return func(c *config) { c.absent = a } }

// WithDefaults sets the options of every Fetch; those of a call come after.
func WithDefaults(opts ...FetchOption) Option {
	return func(c *config) {
		for _, o := range opts {
			o(&c.defaults)
		}
	}
}

// WithEpoch makes s, such as a build number or a digest of all templates, part
// of every fragment's key: another epoch starts with an empty cache.
func WithEpoch(s string) Option { return func(c *config) { c.epoch = s } }

// WithFallbackLimit bounds the number of computations that run at once while
// Redis is down, so that the database is not the next to go. Further calls wait
// for their turn, or for the end of their context, and then return [ErrBusy].
// Default is 0, no bound.
func WithFallbackLimit(n int) Option { return func(c *config) { c.fallbackLimit = n } }

// WithHooks adds instrumentation. Given several times, all of it is called.
func WithHooks(h Hooks) Option { return func(c *config) { c.hooks = append(c.hooks, h) } }

// WithLegacyCounters gives the tokens the literal meaning they have in the
// Python original, for a cache that is shared with it: an absent token counts
// 0, the first increment of an absent token stores 0, and the version is the
// sum of just the named tokens, without groups and generation.
//
// Do not use it otherwise: an increment can get lost. A reader that finds the
// token absent computes version 0; the data change and the first increment
// stores 0; the reader stores what it read before the change under version 0,
// and everybody is served that until the second change. Likewise, a token that
// is evicted makes fragments from before current again.
func WithLegacyCounters() Option { return func(c *config) { c.legacy = true } }

// WithPrefix sets the text that every key in Redis starts with, so that
// applications can share one Redis. Default is "icache:". Tokens move with it
// unless [WithTokenKey] is given.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithTimeout bounds the time a Fetch spends on one round trip to Redis before
// it computes without, waiting for a connection and dialing included. To save
// timers it may be up to an eighth more. With [WithAutoPipeline] only reading and
// writing count: what waits in the pipeline does not. A dial that takes longer
// goes on in the background, as long as the client's DialTimeout. Default is
// 100 ms; 0 leaves it to the client.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithTokenKey sets the Redis key of a token: a pattern with {token} in it.
// Default is the prefix followed by "t:{token}". It must be the same for
// everybody: this package, the agent (redis.token_key) and other readers.
func WithTokenKey(pattern string) Option { return func(c *config) { c.tokenKey = pattern } }

// WithTokenTTL lets tokens expire a time after they were created, for memory.
// A token that is gone costs a recomputation and nothing else. Default is 0,
// which leaves it to the eviction policy of Redis; any policy will do.
// Times are rounded up to seconds.
func WithTokenTTL(d time.Duration) Option { return func(c *config) { c.tokenTTL = d } }

// FetchOption configures one call, or, through [WithDefaults], all of them.
type FetchOption func(*fetchConfig)

type fetchConfig struct {
	checksum     bool
	codec        Codec
	compressAt   int
	compressor   Compressor
	compressSet  bool // by WithCompression; otherwise the default applies
	holdoff      time.Duration
	leaseTTL     time.Duration
	leaseWait    time.Duration
	noLease      bool
	stale        time.Duration
	staleOnError time.Duration
	ttl          time.Duration
	vary         []string
}

// NoLease lets every process compute the fragment for itself: one round trip
// less on a miss, for computations that are cheaper than waiting.
func NoLease() FetchOption { return func(c *fetchConfig) { c.noLease = true } }

// Holdoff treats what is computed within d after an increment as short-lived:
// it is stored so that it expires d after the increment. Set it to the worst
// lag of the replicas, if the computation reads from replicas, plus the
// difference between the clocks of this machine and of Redis. A result is then
// stale for at most d, at the price of a second computation.
func Holdoff(d time.Duration) FetchOption { return func(c *fetchConfig) { c.holdoff = d } }

// Stale lets the call return an outdated fragment at once while one caller
// computes the new one, in the background for [Fetch], if the latest increment
// of any of its tokens is at most d ago (by the clocks of this machine and of
// Redis). It gives up the guarantee of the package for this call: what it
// returns may be d old, counted from the latest increment, or from the moment
// a token was created again after Redis had lost it.
//
// The function given to Fetch runs on after Fetch has returned, with a context
// that does not end; it must not use what belongs to the request.
func Stale(d time.Duration) FetchOption { return func(c *fetchConfig) { c.stale = d } }

// StaleOnError lets the call return an outdated fragment if the computation
// fails, within the same bound as [Stale].
func StaleOnError(d time.Duration) FetchOption { return func(c *fetchConfig) { c.staleOnError = d } }

// TTL bounds the life of the stored fragment, less up to 10 % at random so
// that fragments stored together do not expire together. It is for memory and
// for data that no token covers; 0, the default, stores for as long as Redis
// has room.
func TTL(d time.Duration) FetchOption { return func(c *fetchConfig) { c.ttl = d } }

// Vary makes values part of the key that are not tokens: a language, a page
// number, a build. They are compared as fmt.Sprint prints them; so do not give
// it pointers, nor structs that hold some, whose addresses differ each time.
func Vary(values ...any) FetchOption {
	return func(c *fetchConfig) {
		for _, v := range values {
			s, ok := v.(string)
			if !ok {
				s = fmt.Sprint(v)
			}
			c.vary = append(slices.Clip(c.vary), s)
		}
	}
}

// WithVerify computes a share of the hits again, in the background, and reports
// those that differ to [Hooks.Mismatch]: the way to find a token that is missing
// from a fragment or from the agent's mapping. share is between 0, the default,
// and 1. The computation must yield equal bytes for equal data. It runs on
// after Fetch has returned and must not use what belongs to the request.
func WithVerify(share float64) Option { return func(c *config) { c.verify = share } }

// WithChecksum stores a CRC-32C with the fragment and takes a fragment whose
// sum is wrong for a miss.
func WithChecksum() FetchOption { return func(c *fetchConfig) { c.checksum = true } }

// WithCodec sets the encoding of values that are neither []byte nor of a
// string type. Default is [JSON].
func WithCodec(codec Codec) FetchOption { return func(c *fetchConfig) { c.codec = codec } }

// WithCompression compresses payloads of at least atLeast bytes, if that saves
// 12 % or more. A nil Compressor turns it off. Default is [S2] from 1 KiB and
// [Zstd] from 4 KiB.
func WithCompression(atLeast int, comp Compressor) FetchOption {
	return func(c *fetchConfig) { c.compressAt, c.compressor, c.compressSet = atLeast, comp, true }
}

// WithLease sets for how long one process of all may compute a fragment alone
// (ttl) and how long the others wait for it before they compute it too (wait).
// Default is 3 s and 1 s.
func WithLease(ttl, wait time.Duration) FetchOption {
	return func(c *fetchConfig) { c.leaseTTL, c.leaseWait, c.noLease = ttl, wait, false }
}

// jitter takes up to a tenth off d.
func jitter(d time.Duration) time.Duration {
	if d < 10 {
		return d
	}
	return d - rand.N(d/10)
}
