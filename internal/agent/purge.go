package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/icache-go/icache-agent/internal/cdn"
)

// purgeMark begins the names of the marks, among those of the rules, that say at
// which CDNs everything was purged that lies behind the cursor. No table has a
// name with a colon before its dot, and no sink one with a dot.
const purgeMark = "cdn:"

// purges has the tokens purged at CDNs whose bumps Redis has acknowledged.
//
// What is outstanding is known to the next leader: until it is in a table of the
// database, the saved cursor stays behind (see [listener.Settler]). A CDN that
// the leader before did not know, or an outstanding purge that cannot be kept,
// shows by the marks; then everything is purged.
type purges struct {
	*cdn.Purger
	leading func() time.Time // since when this agent leads

	kept    bool      // what is outstanding, when asked last
	adopted time.Time // the leadership for which the marks were adopted
}

func (p *purges) add(marks map[string]string) {
	sinks := p.Sinks()
	if len(sinks) == 0 {
		return
	}
	if p.kept = p.Durable(context.Background()); !p.kept { // which has a timeout of its own
		return
	}
	for name, identity := range sinks {
		sum := sha256.Sum256([]byte(identity))
		marks[purgeMark+name] = hex.EncodeToString(sum[:16])
	}
}

// adopt has everything purged at the CDNs whose marks are not those of before,
// and what the leader before has left.
func (p *purges) adopt(ctx context.Context, a *applier, changed []string) {
	if len(p.Sinks()) == 0 {
		return
	}
	begins := !p.adopted.Equal(p.leading())
	if begins {
		p.TakeOver()
		p.adopted = p.leading()
	}
	for name := range p.Sinks() {
		if slices.Contains(changed, purgeMark+name) || begins && !p.kept {
			a.log.WarnContext(ctx, "agent: a CDN may have missed purges, everything is purged there", "cdn", name)
			p.AddAll(time.Now(), name)
		}
	}
}
