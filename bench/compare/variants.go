package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-redis/cache/v9"
	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/icache-go/icache-agent/icache"
)

// A variant is one way to get a cached page.
type variant struct {
	name string
	// behind says how old a hit may be after a change.
	behind string
	// hit gets one of the pages and returns its size.
	hit func(ctx context.Context, page int) (int, error)
}

var tokens = []string{"movies", "movie:42", "user:7", "genre:3"}

const (
	// Many pages, because callers that want the same one at the same time may be
	// given the same reply, which would measure something else.
	pages = 512

	ttl      = time.Hour
	poolSize = 64 // connections, more than there are goroutines
	memory   = 64 << 20
)

// page is HTML of the given size.
func page(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "<li class=movie id=m%d><a href=/movies/%d>Film %d</a> <span>%d stars, %x</span></li>\n", i, i*7919, i, i%5+1, i*i*7919*104729)
	}
	return b.String()[:size]
}

// lab has the variants for one payload, and what they have opened.
type lab struct {
	addr     string
	payload  string
	names    [pages]string
	keys     [pages][]string // that a hit of icache reads: tokens and fragment
	variants []variant
	closers  []func() error
}

func openLab(ctx context.Context, addr string, size int) (_ *lab, err error) {
	l := &lab{addr: addr, payload: page(size)}
	for i := range l.names {
		l.names[i] = fmt.Sprintf("page%d", i)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	// The first one stores the fragment that the bare reads get.
	if err := l.library(ctx); err != nil {
		return nil, err
	}
	for _, open := range []func(context.Context) error{l.goRedis, l.rueidis, l.goRedisCache, l.otter} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *lab) close() error {
	var errs []error
	for _, c := range slices.Backward(l.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func (l *lab) client() *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: l.addr, PoolSize: poolSize})
	l.closers = append(l.closers, rdb.Close)
	return rdb
}

func (l *lab) add(name, behind string, hit func(context.Context, int) (int, error)) {
	l.variants = append(l.variants, variant{name, behind, hit})
}

// library adds icache. Payloads are stored as they are, so that all variants
// move the same bytes, but in the variant that says otherwise.
func (l *lab) library(ctx context.Context) error {
	plain := icache.WithDefaults(icache.WithCompression(0, nil))
	for _, v := range []struct {
		name, behind string
		opts         []icache.Option
	}{
		{"icache.Fetch", "nothing", []icache.Option{plain}},
		{"icache.Fetch, compression as by default", "nothing", []icache.Option{icache.WithEpoch("compressed")}},
		{"icache.Fetch, WithPayloadCache", "nothing", []icache.Option{plain, icache.WithPayloadCache(memory)}},
		{"icache.Fetch, WithAutoPipeline", "nothing", []icache.Option{plain, icache.WithAutoPipeline()}},
		{"icache.Fetch, both", "nothing", []icache.Option{plain, icache.WithAutoPipeline(), icache.WithPayloadCache(memory)}},
		{"icache.Fetch, WithTracking", "1 s at most", []icache.Option{plain, icache.WithTracking(time.Second), icache.WithPayloadCache(memory)}},
	} {
		var event icache.Event
		prefix := fmt.Sprintf("%d:", len(l.payload))
		probe, err := icache.New(l.client(), append(v.opts, icache.WithPrefix(prefix),
			icache.WithHooks(icache.Hooks{Fetch: func(_ context.Context, e icache.Event) { event = e }}))...)
		if err != nil {
			return err
		}
		// Hooks would count as part of the hit, so they get a cache of their own.
		c, err := icache.New(l.client(), append(v.opts, icache.WithPrefix(prefix))...)
		if err != nil {
			return errors.Join(err, probe.Close())
		}
		l.closers = append(l.closers, c.Close)
		compute := func(context.Context) (string, error) { return l.payload, nil } //nolint:unparam // what Fetch wants
		for i, name := range l.names {
			if _, err := icache.Fetch(ctx, probe, name, tokens, compute); err != nil {
				return errors.Join(err, probe.Close())
			}
			if len(l.keys[i]) > 0 {
				continue
			}
			for _, t := range event.Tokens {
				l.keys[i] = append(l.keys[i], prefix+"t:"+t)
			}
			l.keys[i] = append(l.keys[i], prefix+"f:"+c.FragmentKey(name, tokens))
		}
		if err := probe.Close(); err != nil {
			return err
		}
		l.add(v.name, v.behind, func(ctx context.Context, page int) (int, error) {
			s, err := icache.Fetch(ctx, c, l.names[page], tokens, compute)
			return len(s), err
		})
	}
	return nil
}

// goRedis adds bare reads of the same keys. What they return is larger than the
// page by the header of the fragment.
func (l *lab) goRedis(context.Context) error {
	rdb := l.client()
	mget := func(c redis.Cmdable) func(context.Context, int) (int, error) {
		return func(ctx context.Context, page int) (int, error) {
			vals, err := c.MGet(ctx, l.keys[page]...).Result()
			if err != nil {
				return 0, err
			}
			s, _ := vals[len(vals)-1].(string)
			return len(s), nil
		}
	}
	l.variants = append([]variant{{baseline, "it does not check", mget(rdb)}}, l.variants...)
	ap, err := l.client().AutoPipeline()
	if err != nil {
		return err
	}
	l.closers = append(l.closers, ap.Close)
	l.add("go-redis MGET, AutoPipeline", "it does not check", mget(ap))
	return nil
}

const baseline = "go-redis MGET"

func (l *lab) rueidis(context.Context) error {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{l.addr}})
	if err != nil {
		return err
	}
	l.closers = append(l.closers, func() error { c.Close(); return nil })
	last := func(r rueidis.RedisResult) (int, error) {
		vals, err := r.ToArray()
		if err != nil {
			return 0, err
		}
		s, err := vals[len(vals)-1].ToString()
		return len(s), err
	}
	l.add("rueidis MGET", "it does not check", func(ctx context.Context, page int) (int, error) {
		return last(c.Do(ctx, c.B().Mget().Key(l.keys[page]...).Build()))
	})
	l.add("rueidis MGET, client-side cache", "until Redis has told it, or the TTL", func(ctx context.Context, page int) (int, error) {
		return last(c.DoCache(ctx, c.B().Mget().Key(l.keys[page]...).Cache(), ttl))
	})
	return nil
}

func (l *lab) goRedisCache(context.Context) error {
	for _, v := range []struct {
		name  string
		local cache.LocalCache
	}{
		{"go-redis/cache Once", nil},
		{"go-redis/cache Once, TinyLFU", cache.NewTinyLFU(1000, ttl)},
	} {
		// Its own compression of strings is turned off, as that of icache is.
		c := cache.New(&cache.Options{
			Redis: l.client(), LocalCache: v.local,
			Marshal: func(v any) ([]byte, error) {
				s, ok := v.(string)
				if !ok {
					return nil, fmt.Errorf("unexpected %T", v)
				}
				return []byte(s), nil
			},
			Unmarshal: func(b []byte, v any) error {
				s, ok := v.(*string)
				if !ok {
					return fmt.Errorf("unexpected %T", v)
				}
				*s = string(b)
				return nil
			},
		})
		var keys [pages]string
		for i, name := range l.names {
			keys[i] = fmt.Sprintf("cache:%d:%s", len(l.payload), name)
		}
		l.add(v.name, "the TTL", func(ctx context.Context, page int) (int, error) {
			var s string
			err := c.Once(&cache.Item{Ctx: ctx, Key: keys[page], Value: &s, TTL: ttl,
				Do: func(*cache.Item) (any, error) { return l.payload, nil }})
			return len(s), err
		})
	}
	return nil
}

func (l *lab) otter(context.Context) error {
	c, err := otter.New(&otter.Options[string, string]{
		MaximumWeight: memory, Weigher: func(_, v string) uint32 { return uint32(len(v)) },
		ExpiryCalculator: otter.ExpiryWriting[string, string](ttl),
	})
	if err != nil {
		return err
	}
	l.closers = append(l.closers, func() error { c.StopAllGoroutines(); return nil })
	for _, name := range l.names {
		c.Set(name, l.payload)
	}
	l.add("otter", "the TTL; knows nothing of other processes", func(_ context.Context, page int) (int, error) {
		s, ok := c.GetIfPresent(l.names[page])
		if !ok {
			return 0, errors.New("otter: lost the page")
		}
		return len(s), nil
	})
	return nil
}

// check runs every variant until all are warm, and makes sure that each
// returns the page.
func (l *lab) check(ctx context.Context) error {
	const header = 24
	for _, v := range l.variants {
		for i := range 2 * pages {
			n, err := v.hit(ctx, i%pages)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			if n != len(l.payload) && n != len(l.payload)+header {
				return fmt.Errorf("%s: got %d bytes, not %d", v.name, n, len(l.payload))
			}
		}
	}
	rdb := l.client()
	for _, keys := range l.keys {
		got, err := rdb.Get(ctx, keys[len(keys)-1]).Bytes()
		if err != nil {
			return err
		}
		if !bytes.HasSuffix(got, []byte(l.payload)) {
			return errors.New("the fragment that the bare reads get is not the page")
		}
	}
	return nil
}
