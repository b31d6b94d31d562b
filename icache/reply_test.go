package icache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/icache-go/icache-agent/internal/servertest"
)

func TestParseReply(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "values")
		reply := fmt.Appendf(nil, "*%d\r\n", len(want))
		for i, v := range want {
			switch rapid.IntRange(0, 3).Draw(t, "null") {
			case 0:
				want[i], reply = nil, append(reply, null2...)
			case 1:
				want[i], reply = nil, append(reply, null3...)
			default:
				reply = fmt.Appendf(reply, "$%d\r\n%s\r\n", len(v), v)
			}
		}
		got, ok := parseReply(nil, reply, len(want))
		require.True(t, ok)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, want[i] == nil, got[i] == nil, "absent is not empty")
			require.Equal(t, string(want[i]), string(got[i]))
		}
		_, ok = parseReply(nil, reply, len(want)+1)
		require.False(t, ok)
		_, ok = parseReply(nil, reply[:rapid.IntRange(0, len(reply)-1).Draw(t, "cut")], len(want))
		require.False(t, ok)
		_, ok = parseReply(nil, append(reply, '\r'), len(want))
		require.False(t, ok)
	})
}

func FuzzParseReply(f *testing.F) {
	for _, s := range []string{"*2\r\n$1\r\na\r\n$-1\r\n", "*2\r\n_\r\n$0\r\n\r\n", "-LOADING\r\n", "*2\r\n$99999999999\r\n", "*2\r\n:1\r\n$1x\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if vals, ok := parseReply(nil, b, 2); ok {
			require.Len(t, vals, 2)
			for _, v := range vals {
				require.LessOrEqual(t, len(v), len(b))
			}
		}
	})
}

// An error is the client's to understand: it knows which ones pass.
func TestErrorReply(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	rdb := dial(t, server.URL())
	ctx := t.Context()
	c := cacheOn(t, rdb)
	require.NoError(t, rdb.Set(ctx, "a", "1", 0).Err())
	got, err := c.redis.mget(ctx, rdb, []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, values{[]byte("1"), nil}, got)
	require.NoError(t, rdb.ACLSetUser(ctx, "nobody", "on", "nopass", "+hello", "+client", "+select", "~*").Err())
	o := *rdb.Options()
	o.Username, o.Password = "nobody", "any"
	barred := redis.NewClient(&o)
	t.Cleanup(func() { require.NoError(t, barred.Close()) })
	_, err = c.redis.mget(ctx, barred, []string{"a", "b"})
	var refused redis.Error
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "NOPERM")
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	type key struct{}
	parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
	cancel()
	ds := &deadlines{timeout: 80 * time.Millisecond}
	began := time.Now()
	ctx, done := ds.context(parent)
	defer done()
	require.Equal(t, "v", ctx.Value(key{}))
	at, ok := ctx.Deadline()
	require.True(t, ok)
	require.WithinRange(t, at, began.Add(80*time.Millisecond), time.Now().Add(90*time.Millisecond))
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	require.False(t, time.Now().Before(began.Add(80*time.Millisecond)))
	child, stop := context.WithCancel(ctx)
	defer stop()
	<-child.Done()

	next, done := ds.context(t.Context())
	defer done()
	require.NoError(t, next.Err(), "the next ones have their time too")

	sooner, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	ctx, done = ds.context(sooner)
	defer done()
	<-ctx.Done()
	require.Error(t, ctx.Err())
	want, _ := sooner.Deadline()
	got, _ := ctx.Deadline()
	require.Equal(t, want, got)

	ctx, done = (&deadlines{}).context(parent)
	defer done()
	require.Equal(t, parent, ctx)
}
