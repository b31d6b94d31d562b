package icache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a Redis in one of two forms. A single server takes commands with
// many keys; a Cluster takes pipelines of commands with one slot each.
type server struct {
	rdb     redis.UniversalClient // for writes: the client's own timeouts
	read    redis.UniversalClient // for Fetch: short timeouts
	reads   redis.UniversalClient // for the MGETs of Fetch: read, perhaps pipelined
	cluster bool
	limit   *deadlines
	warning error
}

// context bounds one round trip of a Fetch.
func (s *server) context(ctx context.Context) (context.Context, context.CancelFunc) {
	return s.limit.context(ctx)
}

func newServer(rdb redis.UniversalClient, timeout time.Duration) (server, error) {
	s := server{rdb: rdb, read: rdb, reads: rdb, limit: &deadlines{timeout: timeout}}
	switch c := rdb.(type) {
	case nil:
		return s, errors.New("icache: the redis client is nil")
	case *redis.Client:
		o := c.Options()
		if o.ClientSideCacheConfig != nil || o.ClientSideCache != nil {
			return s, errors.New("icache: the redis client has a client-side cache, which would serve old tokens; use a client without, and WithTracking")
		}
		if timeout > 0 {
			s.read = withTimeout(c, timeout)
			s.reads = s.read
		}
	case *redis.ClusterClient:
		o := c.Options()
		if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return s, errors.New("icache: the cluster client reads from replicas (ReadOnly, RouteByLatency or RouteRandomly), which lag behind increments; use a client without")
		}
		s.cluster = true
		if timeout > 0 && !o.ContextTimeoutEnabled {
			s.warning = ErrContextTimeout
		}
	case *redis.Ring:
		return s, errors.New("icache: a redis.Ring moves tokens to other shards when one is down, which brings old values back; use Sentinel or Cluster")
	default:
		// An unknown client gets what works everywhere.
		s.cluster = true
	}
	return s, nil
}

// chunk is some of a list of token keys, by position, that one run of a script
// takes.
type chunk struct {
	at   []int
	slot bool // all are in one slot, to which a Cluster's client has to find
}

// addTo adds the keys to a call. As pointers they cost no memory each; but the
// client for a Cluster must be able to read the first.
func (ch chunk) addTo(args call, keys []string) call {
	for _, k := range ch.at {
		if ch.slot {
			args = append(args, keys[k])
		} else {
			args = append(args, &keys[k])
		}
	}
	return args
}

// chunks splits token keys into calls of a script: of a limited size, and on a
// Cluster of one slot each.
func (s *server) chunks(keys []string) []chunk {
	if !s.cluster {
		all := make([]int, len(keys))
		for i := range all {
			all[i] = i
		}
		var out []chunk
		for at := range slices.Chunk(all, chunkTokens) {
			out = append(out, chunk{at: at})
		}
		return out
	}
	last := make(map[uint16]int, len(keys)) // slot → its open chunk
	var out []chunk
	for i, k := range keys {
		slot := keySlot(k)
		j, ok := last[slot]
		if !ok || len(out[j].at) == chunkTokens {
			j = len(out)
			out = append(out, chunk{slot: true})
			last[slot] = j
		}
		out[j].at = append(out[j].at, i)
	}
	return out
}

func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func unexpected(what string, v any) error { return fmt.Errorf("icache: unexpected %s %T", what, v) }
