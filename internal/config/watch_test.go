package config_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/config"
)

func TestWatch(t *testing.T) {
	t.Parallel()

	const every = 20 * time.Millisecond
	dir := t.TempDir()
	file := filepath.Join(dir, "icache.yaml")
	write := func(path, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	// As Kubernetes mounts a ConfigMap: a link to a link to a directory.
	for name, content := range map[string]string{"one": "a", "two": "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(filepath.Join(dir, name, "icache.yaml"), content)
	}
	require.NoError(t, os.Symlink("one", filepath.Join(dir, "data")))
	require.NoError(t, os.Symlink(filepath.Join("data", "icache.yaml"), file))

	var calls atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		config.Watch(ctx, file, every, func() { calls.Add(1) })
	}()
	defer func() { cancel(); <-done }()
	expect := func(n int32, what string) {
		t.Helper()
		require.Eventually(t, func() bool { return calls.Load() >= n }, 10*time.Second, time.Millisecond, what)
		time.Sleep(5 * every)
		require.Equal(t, n, calls.Load(), what)
	}
	time.Sleep(3 * every)
	expect(0, "nothing has changed")

	require.NoError(t, os.Symlink("two", filepath.Join(dir, "data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(dir, "data_tmp"), filepath.Join(dir, "data")))
	expect(1, "the link was turned")

	write(filepath.Join(dir, "new"), "c")
	require.NoError(t, os.Rename(filepath.Join(dir, "new"), file))
	expect(2, "another file was renamed over it")

	info, err := os.Stat(file)
	require.NoError(t, err)
	write(file, "d")
	require.NoError(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
	expect(3, "the size and the time are the same, the content is not")

	require.NoError(t, os.Remove(file))
	time.Sleep(5 * every)
	write(file, "d")
	expect(3, "it is as it was")

	write(file, "e")
	expect(4, "it was written in place")
}

func TestNeedRestart(t *testing.T) {
	t.Parallel()

	before, _ := load(t, "postgres: {url: 'postgres://u:secret@db/app'}\ntables: [{table: a, tokens: [a]}]")
	after, _ := load(t, "postgres: {url: 'postgres://u:other@db/app', lock_timeout: 3s}\nhttp: {listen: ''}\ntables: [{table: b, tokens: [b]}]")
	require.Empty(t, config.NeedRestart(before, before))
	require.Equal(t, []string{"http.listen", "postgres.lock_timeout", "postgres.url"}, config.NeedRestart(before, after))
}
