package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
)

const defaultTokenKey = "icache:t:{token}"

func (p *patient) redis(ctx context.Context) {
	rdb := p.cfg.Redis
	if rdb == nil {
		p.add(Note, "redis", "not configured", "nothing can be bumped", "set redis.url")
		return
	}
	start := time.Now()
	if err := rdb.Ping(ctx).Err(); err != nil {
		p.add(Serious, "redis", err.Error(), "no token can be bumped; changes wait in the outbox", "check redis.url, and that the server is up")
		return
	}
	p.ok("redis", "answers in %s", time.Since(start).Round(10*time.Microsecond))
	info, err := p.info(ctx)
	if err != nil {
		p.failed("redis server", err)
	} else {
		p.redisServer(info)
	}
	p.clock(ctx)
	p.bump(ctx)
}

func (p *patient) info(ctx context.Context) (map[string]string, error) {
	fields := make(map[string]string)
	for _, section := range []string{"server", "replication", "persistence", "memory", "cluster"} {
		text, err := p.cfg.Redis.Info(ctx, section).Result()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				fields[k] = v
			}
		}
	}
	return fields, nil
}

func (p *patient) redisServer(info map[string]string) {
	version := info["redis_version"]
	major, minor := versionOf(version)
	if v, valkey := info["valkey_version"]; valkey {
		p.ok("redis version", "Valkey %s", v)
	} else if major < 6 || major == 6 && minor < 2 {
		p.add(Serious, "redis version", version, "the scripts need Redis 6.2", "upgrade the server")
	} else {
		p.ok("redis version", "%s", version)
	}
	if info["role"] == "slave" {
		p.add(Serious, "redis role", "the server is a replica", "it refuses writes, or loses them", "point redis.url at the master, or use redis-sentinel://")
	}
	_, isCluster := p.cfg.Redis.(*redis.ClusterClient)
	if info["cluster_enabled"] == "1" && !isCluster {
		p.add(Serious, "redis cluster", "the server is part of a Cluster, the URL is that of a single server", "tokens of other shards cannot be bumped", "write redis-cluster://host1,host2")
	}
	p.memory(info)
	p.persistence(info)
}

func (p *patient) memory(info map[string]string) {
	policy, limit := info["maxmemory_policy"], info["maxmemory"]
	foreign := p.cfg.TokenKey != "" && p.cfg.TokenKey != defaultTokenKey
	switch {
	case limit == "0":
		p.add(Note, "eviction", "maxmemory is not set", "Redis grows until the system ends it", "set maxmemory, and maxmemory-policy allkeys-lru: a lost fragment or token costs one rendering")
	case foreign && strings.HasPrefix(policy, "allkeys-"):
		p.add(Warning, "eviction", policy+", with tokens of another program (redis.token_key)",
			"a reader that takes an absent token for 0 may serve old fragments after an eviction", "use noeviction or a volatile- policy for that Redis")
	case policy == "noeviction":
		p.add(Note, "eviction", "noeviction", "when memory is full, tokens are removed instead of incremented, and nothing new is cached", "allkeys-lru is safe for readers that follow docs/protocol.md")
	default:
		p.ok("eviction", "%s", policy)
	}
}

func (p *patient) persistence(info map[string]string) {
	kept := "no append-only file"
	if info["aof_enabled"] == "1" {
		kept = "append-only file"
	}
	p.ok("persistence", "%s; after a restart the agent repeats the bumps of redis.replay_window", kept)
	if n := info["connected_slaves"]; n != "0" && n != "" {
		p.add(Note, "redis replicas", n+" connected", "a failover may lose the last bumps; the agent repeats those of redis.replay_window", "")
	}
}

// clock compares the clock of Redis with this machine's: token values are
// times of Redis, so they need it to go forward, and nothing else.
func (p *patient) clock(ctx context.Context) {
	before := time.Now()
	at, err := p.cfg.Redis.Time(ctx).Result()
	if err != nil {
		p.failed("clock", err)
		return
	}
	off := at.Sub(before.Add(time.Since(before) / 2))
	if off.Abs() > 5*time.Second {
		p.add(Warning, "clock", fmt.Sprintf("Redis and this machine are %s apart", off.Abs().Round(time.Millisecond)),
			"values are still right; times shown in status and logs are not", "synchronise both clocks")
		return
	}
	p.ok("clock", "Redis and this machine are %s apart", off.Abs().Round(time.Millisecond))
}

// bump does what the agent does, with a token of its own.
func (p *patient) bump(ctx context.Context) {
	const token = "icache-doctor"
	pattern := p.cfg.TokenKey
	if pattern == "" {
		pattern = defaultTokenKey
	}
	c, err := icache.New(p.cfg.Redis, icache.WithTokenKey(pattern))
	if err != nil {
		p.add(Serious, "bump", err.Error(), "", "")
		return
	}
	defer c.Close()
	start := time.Now()
	if err := c.Incr(ctx, token); err != nil {
		hint := ""
		if strings.Contains(err.Error(), "NOPERM") {
			hint = "the ACL of the agent needs EVALSHA, EVAL, MGET, SET, UNLINK, TIME and INFO on the token keys"
		}
		p.add(Serious, "bump", err.Error(), "tokens cannot be bumped", hint)
		return
	}
	took := time.Since(start)
	err = p.cfg.Redis.Unlink(ctx, strings.ReplaceAll(pattern, "{token}", token)).Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		p.failed("bump", err)
		return
	}
	p.ok("bump", "a token was bumped in %s", took.Round(10*time.Microsecond))
}

func versionOf(s string) (major, minor int) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) >= 2 {
		major, _ = strconv.Atoi(parts[0])
		minor, _ = strconv.Atoi(parts[1])
	}
	return major, minor
}
