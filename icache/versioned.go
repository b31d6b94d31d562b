package icache

import (
	"context"
	"time"
)

// SetVersioned stores value under key and version, which must have been read
// with [Cache.GetSum] before the data that value was made from. The key must
// determine the tokens: two sets of tokens under one key can have equal sums.
// Of the options, TTL, WithChecksum and WithCompression apply.
func (c *Cache) SetVersioned(ctx context.Context, key string, v Version, value []byte, opts ...FetchOption) error {
	fc := c.options(opts)
	e := entry{version: v, payload: value}
	b, err := c.marshal(fc, &e, fc.ttl)
	if err != nil {
		return err
	}
	if err := c.redis.rdb.Set(ctx, c.fragmentKey(key), b, expiry(e.expires)).Err(); err != nil {
		return redisError("store fragment", err)
	}
	return nil
}

// GetVersioned returns the value stored under key if its version is v, and
// otherwise [ErrMiss]. A value of another version is deleted, unless somebody
// has replaced it meanwhile.
func (c *Cache) GetVersioned(ctx context.Context, key string, v Version) ([]byte, error) {
	raw, err := c.redis.rdb.Get(ctx, c.fragmentKey(key)).Bytes()
	if isNil(err) {
		return nil, ErrMiss
	}
	if err != nil {
		return nil, redisError("read fragment", err)
	}
	e, err := parseEntry(raw, nil)
	if err != nil {
		return nil, ErrMiss
	}
	if e.version != v {
		if err := c.dropVersion(ctx, key, e.version); err != nil {
			c.hookError(ctx, "delete fragment", err)
		}
		return nil, ErrMiss
	}
	payload, err := c.cfg.defaults.decompress(e.compressor, e.payload)
	if err != nil {
		return nil, ErrMiss
	}
	return payload, nil
}

// Delete deletes fragments by key. The key of a fragment that Fetch has stored
// is what [Cache.FragmentKey] returns. Nothing needs it for freshness.
func (c *Cache) Delete(ctx context.Context, keys ...string) error {
	pipe := c.redis.rdb.Pipeline()
	for _, k := range keys {
		pipe.Unlink(ctx, c.fragmentKey(k))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return redisError("delete fragments", err)
	}
	return nil
}

// dropVersion deletes the fragment under key if it still has version v.
func (c *Cache) dropVersion(ctx context.Context, key string, v Version) error {
	drop := append(newCall(1), c.fragmentKey(key)).end(versionBytes(v))
	if err := runScripts(ctx, c.redis.rdb, dropScript, []call{drop})[0].Err(); err != nil {
		return redisError("delete fragment", err)
	}
	return nil
}

// marshal compresses the payload of e and returns its stored form.
func (c *Cache) marshal(fc *fetchConfig, e *entry, ttl time.Duration) ([]byte, error) {
	e.computed = time.Now()
	if ttl > 0 {
		e.expires = e.computed.Add(jitter(ttl))
	}
	e.checksum = fc.checksum
	payload := e.payload
	e.payload, e.compressor = fc.compress(payload)
	b, err := e.append(make([]byte, 0, fixedHeader+64+len(e.payload)))
	e.payload, e.compressor = payload, compressNone
	return b, err
}

// expiry is the time to live that SET takes: 0 for none, else at least 1 ms.
func expiry(at time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	return max(time.Until(at), time.Millisecond)
}
