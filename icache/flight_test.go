package icache

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFetchOncePerVersion(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t, WithDefaults(NoLease()))
	ctx := t.Context()
	var computed atomic.Int64
	block := make(chan struct{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			b, err := Fetch(ctx, c, "k", []string{"a"}, func(context.Context) ([]byte, error) {
				computed.Add(1)
				<-block
				return []byte("v"), nil
			})
			if err != nil || string(b) != "v" {
				t.Error(err, string(b))
			}
			b[0] = 'X' // each has a copy of its own
		})
	}
	require.Eventually(t, func() bool { return waiting(c) == 49 }, 10*time.Second, time.Millisecond)
	close(block)
	wg.Wait()
	require.Equal(t, int64(1), computed.Load())
	require.Equal(t, uint64(49), c.Stats().Shared)
}

// waiting counts the callers that wait for another's computation.
func waiting(c *Cache) int {
	c.flights.mu.Lock()
	defer c.flights.mu.Unlock()
	n := 0
	for _, fl := range c.flights.m {
		fl.mu.Lock()
		n += fl.waiters
		fl.mu.Unlock()
	}
	return n
}

// A caller that comes after an increment must not get the result of a
// computation that began before.
func TestFetchDoesNotJoinOlderFlight(t *testing.T) {
	t.Parallel()
	for name, deps := range map[string]struct {
		static []string
		extra  string
	}{"declared": {[]string{"a"}, "b"}, "found on the way": {[]string{"c"}, "a"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := newCache(t, WithDefaults(NoLease()))
			ctx := t.Context()
			var data atomic.Int64
			read, proceed := make(chan struct{}), make(chan struct{})
			first := make(chan int64)
			go func() {
				v, err := Fetch(ctx, c, "k", deps.static, func(ctx context.Context) (int64, error) {
					Depend(ctx, deps.extra)
					v := data.Load()
					close(read)
					<-proceed
					return v, nil
				})
				if err != nil {
					t.Error(err)
				}
				first <- v
			}()
			<-read
			data.Store(1)
			require.NoError(t, c.Incr(ctx, "a"))
			second := make(chan int64)
			go func() {
				v, err := Fetch(ctx, c, "k", deps.static, func(ctx context.Context) (int64, error) {
					Depend(ctx, deps.extra)
					return data.Load(), nil
				})
				if err != nil {
					t.Error(err)
				}
				second <- v
			}()
			if name != "declared" {
				require.Eventually(t, func() bool { return waiting(c) == 1 }, 10*time.Second, time.Millisecond)
				close(proceed)
				require.Equal(t, int64(0), <-first)
				require.Equal(t, int64(1), <-second)
				return
			}
			require.Equal(t, int64(1), <-second, "it does not even wait")
			close(proceed)
			require.Equal(t, int64(0), <-first)
		})
	}
}

func TestLeaderPanics(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	started, proceed := make(chan struct{}), make(chan struct{})
	panicked := make(chan any)
	go func() {
		defer func() { panicked <- recover() }()
		_, _ = Fetch(ctx, c, "k", nil, func(context.Context) (string, error) {
			close(started)
			<-proceed
			panic("boom")
		})
	}()
	<-started
	got := make(chan string)
	go func() {
		v, err := Fetch(ctx, c, "k", nil, constant("mine"))
		if err != nil {
			t.Error(err)
		}
		got <- v
	}()
	require.Eventually(t, func() bool { return waiting(c) == 1 }, 10*time.Second, time.Millisecond)
	close(proceed)
	require.Equal(t, "boom", <-panicked)
	require.Equal(t, "mine", <-got)

	// So does a goroutine that ends.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = Fetch(ctx, c, "exit", nil, func(context.Context) (string, error) {
			runtime.Goexit()
			return "", nil
		})
	}()
	<-ended
	fetchTwice(ctx, t, c, "exit", "fine")
}

func TestLeaderIsCancelled(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	leaderCtx, cancel := context.WithCancelCause(t.Context())
	started, proceed := make(chan context.Context, 1), make(chan struct{})
	led := make(chan error)
	go func() {
		_, err := Fetch(leaderCtx, c, "k", nil, func(ctx context.Context) (string, error) {
			started <- ctx
			<-proceed
			return "done", ctx.Err()
		})
		led <- err
	}()
	inner := <-started
	follower, stop := context.WithCancel(t.Context())
	defer stop()
	got := make(chan string)
	go func() {
		v, err := Fetch(follower, c, "k", nil, never[string](t))
		if err != nil {
			t.Error(err)
		}
		got <- v
	}()
	require.Eventually(t, func() bool { return waiting(c) == 1 }, 10*time.Second, time.Millisecond)
	cancel(errTest)
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, inner.Err(), "somebody waits for the result")
	close(proceed)
	require.Equal(t, "done", <-got)
	require.NoError(t, <-led)
}

func TestUnwantedComputationIsCancelled(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	leaderCtx, cancel := context.WithCancelCause(t.Context())
	followerCtx, leave := context.WithCancel(t.Context())
	started := make(chan struct{})
	led, followed := make(chan error), make(chan error)
	go func() {
		_, err := Fetch(leaderCtx, c, "k", nil, func(ctx context.Context) (string, error) {
			close(started)
			<-ctx.Done()
			return "", context.Cause(ctx)
		})
		led <- err
	}()
	<-started
	go func() {
		_, err := Fetch(followerCtx, c, "k", nil, never[string](t))
		followed <- err
	}()
	require.Eventually(t, func() bool { return waiting(c) == 1 }, 10*time.Second, time.Millisecond)
	cancel(errTest)
	leave()
	require.ErrorIs(t, <-followed, context.Canceled)
	require.ErrorIs(t, <-led, errTest)
}

func TestErrorIsShared(t *testing.T) {
	t.Parallel()
	c, _ := newCache(t)
	ctx := t.Context()
	started, proceed := make(chan struct{}), make(chan struct{})
	errs := make(chan error, 2)
	go func() {
		_, err := Fetch(ctx, c, "k", nil, func(context.Context) (string, error) {
			close(started)
			<-proceed
			return "", errTest
		})
		errs <- err
	}()
	<-started
	go func() {
		_, err := Fetch(ctx, c, "k", nil, never[string](t))
		errs <- err
	}()
	require.Eventually(t, func() bool { return waiting(c) == 1 }, 10*time.Second, time.Millisecond)
	close(proceed)
	require.ErrorIs(t, <-errs, errTest)
	require.ErrorIs(t, <-errs, errTest)
}
