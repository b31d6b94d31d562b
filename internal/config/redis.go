package config

import (
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/mapping"
)

const redisHint = "write redis://host:6379/0, redis-cluster://host1,host2 or redis-sentinel://host1,host2/0?master=name, with special characters in the password percent-encoded, or put it into url_file"

// Options returns what [redis.NewUniversalClient] needs to connect.
func (r Redis) Options() (*redis.UniversalOptions, error) {
	opts, problem := parseRedis(r.URL)
	if problem != nil {
		return nil, &Error{Problems: []*mapping.Error{problem}}
	}
	return opts, nil
}

// parseRedis reads a URL. What goes wrong is said without quoting any of it,
// except options: where a URL is malformed, its password may be anywhere.
func parseRedis(raw URL) (*redis.UniversalOptions, *mapping.Error) {
	fail := func(msg string) (*redis.UniversalOptions, *mapping.Error) {
		return nil, &mapping.Error{Msg: "redis.url " + msg, Hint: redisHint}
	}
	scheme, rest, ok := strings.Cut(string(raw), "://")
	if !ok {
		return fail("is not a Redis URL")
	}
	base, mode, _ := strings.Cut(scheme, "-")
	switch {
	case scheme == "unix":
	case base != "redis" && base != "rediss", mode != "" && mode != "cluster" && mode != "sentinel", strings.HasSuffix(scheme, "-"):
		return fail("has a scheme that is not known")
	}

	// The list of hosts is not a URL's; the URL of the first is.
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, list := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, list = authority[:i+1], authority[i+1:]
	}
	hosts := strings.Split(list, ",")
	if mode == "" && len(hosts) > 1 {
		mode = "cluster"
	}
	u, err := url.Parse(base + "://" + user + hosts[0] + tail)
	if err != nil || misread(u) {
		return fail("is not a valid URL")
	}
	q := u.Query()
	take := func(name string) string {
		defer q.Del(name)
		return q.Get(name)
	}
	var master, sentinelUser, sentinelPassword string
	if mode == "sentinel" {
		master, sentinelUser, sentinelPassword = take("master"), take("sentinel_username"), take("sentinel_password")
		if master == "" {
			return fail("does not name the master that the sentinels watch")
		}
	}
	u.RawQuery = q.Encode()
	o, err := redis.ParseURL(u.String())
	if err != nil {
		if _, bad := errors.AsType[*url.Error](err); bad {
			return fail("is not a valid URL")
		}
		return fail("is not valid: " + strings.TrimPrefix(err.Error(), "redis: "))
	}
	if mode == "cluster" && o.DB != 0 {
		return fail("names a database, but a cluster has only database 0")
	}
	opts := universal(o)
	opts.IsClusterMode = mode == "cluster"
	opts.MasterName, opts.SentinelUsername, opts.SentinelPassword = master, sentinelUser, sentinelPassword
	if scheme == "unix" {
		return opts, nil
	}
	port := "6379"
	if mode == "sentinel" {
		port = "26379"
	}
	if opts.Addrs = opts.Addrs[:0]; mode != "" && opts.TLSConfig != nil {
		opts.TLSConfig.ServerName = "" // each host by its own name
	}
	for _, host := range hosts {
		addr, ok := address(host, port)
		if !ok || host == "" && len(hosts) > 1 {
			return fail("has a host that is not host or host:port")
		}
		opts.Addrs = append(opts.Addrs, addr)
	}
	return opts, nil
}

// address completes a host to host:port.
func address(host, port string) (string, bool) {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Host != host {
		return "", false
	}
	name := u.Hostname()
	if name == "" {
		name = "localhost"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(name, port), true
}

// universal copies what a URL can set.
func universal(o *redis.Options) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs:                   []string{o.Addr},
		ClientName:              o.ClientName,
		DB:                      o.DB,
		Protocol:                o.Protocol,
		Username:                o.Username,
		Password:                o.Password,
		MaxRetries:              o.MaxRetries,
		MinRetryBackoff:         o.MinRetryBackoff,
		MaxRetryBackoff:         o.MaxRetryBackoff,
		DialTimeout:             o.DialTimeout,
		ReadTimeout:             o.ReadTimeout,
		WriteTimeout:            o.WriteTimeout,
		PoolFIFO:                o.PoolFIFO,
		PoolSize:                o.PoolSize,
		PoolTimeout:             o.PoolTimeout,
		MinIdleConns:            o.MinIdleConns,
		MaxIdleConns:            o.MaxIdleConns,
		MaxActiveConns:          o.MaxActiveConns,
		MaxConcurrentDials:      o.MaxConcurrentDials,
		PipelinePoolSize:        o.PipelinePoolSize,
		PipelineReadBufferSize:  o.PipelineReadBufferSize,
		PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		ConnMaxIdleTime:         o.ConnMaxIdleTime,
		ConnMaxLifetime:         o.ConnMaxLifetime,
		ConnMaxLifetimeJitter:   o.ConnMaxLifetimeJitter,
		TLSConfig:               o.TLSConfig,
	}
}
