package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/mapping"
)

// foreign is a bumper for readers that know nothing of group tokens and of the
// generation, such as the template tag of a Django site: they see no change but
// that of a token they have named. So what outdates a group is done to each of
// its tokens that is there, found by one scan of the keys for all groups of a
// batch. IncrMany returns when that is done, and only then the cursor moves on;
// batches that come up meanwhile are collected, and share the next scan.
type foreign struct {
	cache *icache.Cache
	log   *slog.Logger
}

func (f *foreign) IncrMany(ctx context.Context, tokens []string) error {
	start := time.Now()
	n, err := IncrForeign(ctx, f.cache, tokens)
	if err == nil && n > 0 {
		f.log.DebugContext(ctx, "agent: bumped each token of groups", "tokens", n, "took", time.Since(start))
	}
	return err
}

func (f *foreign) IncrAll(ctx context.Context) (int, error) { return f.cache.IncrAll(ctx) }

// IncrForeign increments tokens as the agent does for foreign readers: of a group
// each token that there is. It returns the number of those.
func IncrForeign(ctx context.Context, c *icache.Cache, tokens []string) (int, error) {
	single, groups := splitGroups(tokens)
	if len(single) > 0 {
		if err := c.IncrMany(ctx, single); err != nil {
			return 0, err
		}
	}
	return c.IncrGroups(ctx, groups...)
}

// splitGroups takes the groups, and the generation, out of a list of tokens,
// which stays as it is.
func splitGroups(tokens []string) (single, groups []string) {
	for i, t := range tokens {
		if group, ok := mapping.Group(t); t == mapping.Generation || ok && group == t {
			if groups == nil { // most batches have none, and are not copied
				single = append(make([]string, 0, len(tokens)), tokens[:i]...)
			}
			groups = append(groups, t)
		} else if groups != nil {
			single = append(single, t)
		}
	}
	if groups == nil {
		return tokens, nil
	}
	return single, groups
}
