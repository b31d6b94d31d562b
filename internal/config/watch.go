package config

import (
	"context"
	"crypto/sha256"
	"os"
	"reflect"
	"slices"
	"time"
)

// DefaultWatch is how often [Watch] looks, if not told otherwise.
const DefaultWatch = 2 * time.Second

// Watch calls changed each time the content of a file has changed, until ctx
// ends. It looks at the content itself, every so often, so it does not matter
// how it was changed: in place, by renaming another file over it, or by turning
// a symbolic link elsewhere, as Kubernetes does. A content counts once it has
// stayed the same for one interval; a file that is missing for a while, and
// comes back as it was, has not changed.
func Watch(ctx context.Context, file string, every time.Duration, changed func()) {
	if every <= 0 {
		every = DefaultWatch
	}
	known := digest(file)
	last := known
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := digest(file)
		if now != nil && slices.Equal(now, last) && !slices.Equal(now, known) {
			known = now
			changed()
		}
		last = now
	}
}

// digest returns nil for a file that cannot be read.
func digest(file string) []byte {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	sum := sha256.Sum256(content)
	return sum[:]
}

// NeedRestart returns the settings in which two configurations differ, other
// than the tables: a running agent can take up new rules and nothing else.
func NeedRestart(before, after *Config) []string {
	var paths []string
	was, is := before.settings(), after.settings()
	for path := range settings {
		if was[path] != is[path] {
			paths = append(paths, path)
		}
	}
	if !reflect.DeepEqual(before.CDN, after.CDN) {
		paths = append(paths, "cdn")
	}
	slices.Sort(paths)
	return paths
}
