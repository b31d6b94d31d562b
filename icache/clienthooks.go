package icache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// withTimeout is client.WithTimeout, which leaves the client's hooks behind,
// with the hooks that the client has now, and more inside these: the
// application's tracing and metrics have to see what Fetch asks.
func withTimeout(client *redis.Client, timeout time.Duration, more ...redis.Hook) *redis.Client {
	c := client.WithTimeout(timeout)
	c.AddHook(hooksOf{client})
	for _, hook := range more {
		c.AddHook(hook)
	}
	return c
}

// hooksOf is a hook that runs those of another client.
type hooksOf struct{ client *redis.Client }

// around returns the hooks with in as the innermost. A Conn takes on the hooks
// of its client; as in answers by itself, this one never takes a connection.
func (h hooksOf) around(in innermost) *redis.Conn {
	conn := h.client.Conn()
	conn.AddHook(in)
	return conn
}

// DialHook implements [redis.Hook]. Those of the client run anyhow: its copy
// shares the connections.
func (hooksOf) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (h hooksOf) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return h.around(innermost{process: next}).Process
}

// ProcessPipelineHook implements [redis.Hook].
func (h hooksOf) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	conn := h.around(innermost{pipeline: next})
	return func(ctx context.Context, cmds []redis.Cmder) error {
		pipe := conn.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd) // cannot fail before Exec
		}
		_, err := pipe.Exec(ctx)
		return err
	}
}

// innermost is a hook that does what is to be done itself, if it is set,
// instead of leaving it to the client.
type innermost struct {
	process  redis.ProcessHook
	pipeline redis.ProcessPipelineHook
}

// DialHook implements [redis.Hook].
func (innermost) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (in innermost) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	if in.process == nil {
		return next
	}
	return in.process
}

// ProcessPipelineHook implements [redis.Hook].
func (in innermost) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	if in.pipeline == nil {
		return next
	}
	return in.pipeline
}
