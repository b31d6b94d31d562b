package agent

import (
	"context"
	"fmt"
	"time"
)

// redisMark is the mark, among those of the rules, that says which Redis has
// acknowledged what lies behind the cursor. No table has a name without a dot.
const redisMark = "redis"

// redisMarks finds out whether Redis restarted or failed over while no agent
// was there to see it, or another one, of which nobody knows any longer what it
// bumped last.
type redisMarks struct {
	known   func(context.Context) string // identity of the servers; see [redisWatch.known]
	leading func() time.Time             // since when this agent leads

	adopted time.Time // the leadership for which a mark was adopted
}

func (r *redisMarks) add(marks map[string]string) {
	if r.known == nil {
		return
	}
	marks[redisMark] = r.known(context.Background()) // which has a timeout of its own
}

// adopt outdates everything if the mark of the leader before, or of this agent
// when it last led, is another. A change during a leadership has been made good
// by the watch, from what it remembers.
func (r *redisMarks) adopt(ctx context.Context, a *applier, changed bool) error {
	if r.known == nil {
		return nil
	}
	since := r.leading()
	if changed && !r.adopted.Equal(since) {
		a.log.WarnContext(ctx, "agent: redis is not as an agent last saw it, bumping the generation: every fragment becomes stale")
		if _, err := a.cache.IncrAll(ctx); err != nil {
			a.metrics.bumpErrors.Inc()
			return fmt.Errorf("bump the generation: %w", err)
		}
		a.recent.everything(time.Now())
		a.purges.AddAll(time.Now(), "")
		a.metrics.replays.Inc()
		a.settleAll()
	}
	r.adopted = since
	return nil
}
