package icache

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

// commandLog is a hook of an application, such as for tracing: it keeps the
// names of the commands that it sees in the context of a test.
type commandLog struct {
	mu    sync.Mutex
	names []string
}

type logged struct{}

// take returns the names, in order, and forgets them.
func (l *commandLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := strings.Join(l.names, " ")
	l.names = nil
	return names
}

func (l *commandLog) add(ctx context.Context, cmds ...redis.Cmder) {
	if ctx.Value(logged{}) == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cmd := range cmds {
		if name := cmd.Name(); name != "hello" && name != "client" { // of a new connection
			l.names = append(l.names, name)
		}
	}
}

func (*commandLog) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *commandLog) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		l.add(ctx, cmd)
		return next(ctx, cmd)
	}
}

func (l *commandLog) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		l.add(ctx, cmds...)
		return next(ctx, cmds)
	}
}

// Tracing and metrics of the application's client see what Fetch asks, whatever
// its options, once and in the context of the caller.
func TestHooksOfTheClient(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]Option{
		"timeout":       {WithTimeout(5 * time.Second)},
		"no timeout":    {WithTimeout(0)},
		"autopipelined": {WithTimeout(5 * time.Second), WithAutoPipeline()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := dial(t, servertest.Redis(t))
			log := &commandLog{}
			rdb.AddHook(log)
			c := cacheOn(t, rdb, append(opts, WithPrefix(servertest.Prefix(t)+":"))...)
			ctx := context.WithValue(t.Context(), logged{}, true)
			fetch := func() {
				_, err := Fetch(ctx, c, "k", []string{"a"}, constant(1))
				require.NoError(t, err)
			}
			fetch()
			require.Regexp(t, `^mget .*\bset\b`, log.take(), "a miss: read, create the tokens, store")
			fetch()
			require.Equal(t, "mget", log.take(), "a hit")
			require.NoError(t, c.Incr(ctx, "a"))
			require.Regexp(t, `^evalsha`, log.take())
		})
	}
}

// The copy of the client answers as the client does.
func TestCopyWithHooks(t *testing.T) {
	t.Parallel()
	rdb := dial(t, servertest.Redis(t))
	log := &commandLog{}
	rdb.AddHook(log)
	c := withTimeout(rdb, 5*time.Second)
	ctx := context.WithValue(t.Context(), logged{}, true)
	key := servertest.Prefix(t)
	require.ErrorIs(t, c.Get(ctx, key).Err(), redis.Nil)
	pipe := c.Pipeline()
	set, get, wrong := pipe.Set(ctx, key, "v", time.Minute), pipe.Get(ctx, key), pipe.LLen(ctx, key)
	_, err := pipe.Exec(ctx)
	require.ErrorContains(t, err, "WRONGTYPE")
	require.Equal(t, []string{"OK", "v"}, []string{set.Val(), get.Val()})
	require.ErrorContains(t, wrong.Err(), "WRONGTYPE")
	_, err = c.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		get = tx.Get(ctx, key)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, "v", get.Val())
	require.Equal(t, "get set get llen multi get exec", log.take())
	require.Equal(t, 5*time.Second, c.Options().ReadTimeout)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, c.Get(ended, key).Err(), context.Canceled)
}

// argumentEater is a hook that changes commands in place, as one that prefixes
// keys does, and worse.
type argumentEater struct{ commandLog }

func (e *argumentEater) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer func() {
			if args := cmd.Args(); cmd.Name() == "mget" {
				for i := range args {
					args[i] = "eaten"
				}
			}
		}()
		return next(ctx, cmd)
	}
}

func TestHooksMayChangeCommands(t *testing.T) {
	t.Parallel()
	rdb := dial(t, servertest.Redis(t))
	rdb.AddHook(&argumentEater{})
	c := cacheOn(t, rdb, WithPrefix(servertest.Prefix(t)+":"))
	computed := 0
	for range 3 {
		_, err := Fetch(t.Context(), c, "page", []string{"movie:1"}, func(context.Context) (string, error) {
			computed++
			return "page", nil
		})
		require.NoError(t, err)
	}
	require.Equal(t, 1, computed)
}
