package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/internal/localserver"
)

// Redis finds or starts a Redis server.
func (f *Finder) Redis(ctx context.Context) (*Server, error) {
	if raw := f.Getenv(EnvRedisURL); raw != "" {
		return f.givenRedis(ctx, raw)
	}
	return f.climb(ctx, "Redis", EnvRedis, []way{
		{"docker", f.dockerRedis},
		{"local", f.localRedis},
		{"install", f.installRedis},
		{"memory", f.memoryRedis},
	})
}

func (f *Finder) givenRedis(ctx context.Context, rawURL string) (*Server, error) {
	opt, err := redis.ParseURL(rawURL)
	if err != nil {
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			err = urlErr.Err // without the URL, which may hold a password
		}
		return nil, fmt.Errorf("%s: %w; it should look like redis://host:6379/0", EnvRedisURL, err)
	}
	if err := pingRedis(ctx, rawURL); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvRedisURL, err)
	}
	return &Server{
		Name:  "Redis",
		Where: fmt.Sprintf("%s database %d, given by %s", opt.Addr, opt.DB, EnvRedisURL),
		URL:   rawURL,
		Given: true,
		client: func(statement string) string {
			return `redis-cli -u "$` + EnvRedisURL + `" ` + statement
		},
	}, nil
}

func (f *Finder) localRedis(ctx context.Context) (*Server, error) {
	path, err := localserver.FindRedis()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotHere, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	r, err := localserver.StartRedis(ctx, localserver.RedisConfig{Path: path})
	if err != nil {
		return nil, err
	}
	return &Server{
		Name: "Redis", Where: localMention + path + ", port of its own on " + r.Addr(), URL: r.URL(),
		client: f.cliFor(r.URL()), close: r.Close,
	}, nil
}

// memoryRedis starts miniredis. Its clock for time-to-live stands still by
// itself, so it is moved along with the real one.
func (f *Finder) memoryRedis(context.Context) (*Server, error) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		return nil, fmt.Errorf("start miniredis: %w", err)
	}
	done := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() {
		const step = 100 * time.Millisecond
		tick := time.NewTicker(step)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.FastForward(step)
			case <-done:
				return
			}
		}
	})
	url := "redis://" + m.Addr() + "/0"
	return &Server{
		Name: "Redis", Where: "miniredis inside this process on " + m.Addr() + ", a stand-in: no redis-server was found",
		URL: url, Short: true, client: f.cliFor(url),
		close: func() error {
			close(done)
			clock.Wait()
			m.Close()
			return nil
		},
	}, nil
}

// cliFor returns the redis-cli line for a server of ours, if redis-cli is there.
func (f *Finder) cliFor(url string) func(string) string {
	if f.lookPath("redis-cli") == "" {
		return nil
	}
	return func(statement string) string { return "redis-cli -u " + url + " " + statement }
}

func pingRedis(ctx context.Context, url string) error {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	// go-redis would log every attempt to dial a server that is not there (yet).
	conn, err := (&net.Dialer{}).DialContext(ctx, opt.Network, opt.Addr)
	if err != nil {
		return err
	}
	_ = conn.Close()
	opt.ContextTimeoutEnabled = true
	opt.PoolSize, opt.MaxRetries = 1, -1
	client := redis.NewClient(opt)
	defer client.Close()
	return client.Ping(ctx).Err()
}
