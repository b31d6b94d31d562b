package doctor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/outbox"
)

const (
	canaryPatience = 10 * time.Second
	canaryLook     = 2 * time.Millisecond
	canarySlow     = 100 * time.Millisecond
	canaryLate     = time.Second
)

// canary writes a row into the outbox, the way triggers do, and measures how
// long the agent takes to carry it to Redis.
func (p *patient) canary(ctx context.Context, conn *pgx.Conn) {
	const check = "canary"
	if p.cfg.Redis == nil {
		return
	}
	cache, err := icache.New(p.cfg.Redis)
	if err != nil {
		p.failed(check, err)
		return
	}
	defer cache.Close()
	id := rand.Text()
	key := outbox.CanaryKey(cache.LeaseKey(), id)
	text, err := json.Marshal([]string{outbox.CanaryOfDoctor + id})
	if err != nil {
		p.failed(check, err)
		return
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("SELECT %s($1::text::regclass::oid, 'I', $2::text::jsonb)", p.names.Ident("record")), p.names.Meta(), string(text)); err != nil {
		p.failed(check, err)
		return
	}
	committed := time.Now()
	defer p.cfg.Redis.Del(context.WithoutCancel(ctx), key)
	wait, cancel := context.WithTimeout(ctx, canaryPatience)
	defer cancel()
	for {
		n, err := p.cfg.Redis.Exists(wait, key).Result()
		took := time.Since(committed)
		switch {
		case n == 1:
			p.canaryTook(took)
			return
		case wait.Err() != nil:
			p.add(Serious, "canary", fmt.Sprintf("did not reach redis within %s", canaryPatience), "changes are late, or do not arrive: the agent is far behind, blocked, or bumps in another redis",
				"see icache-agent status and the agent's log; compare the redis.url of the agent with this one")
			return
		case err != nil:
			p.failed(check, err)
			return
		}
		time.Sleep(canaryLook)
	}
}

func (p *patient) canaryTook(took time.Duration) {
	found := fmt.Sprintf("from its commit to redis in %s", took.Round(100*time.Microsecond))
	const meaning, hint = "fragments stay outdated for as long after a change", "see icache-agent status: a backlog, a slow connection to either server, or a busy machine"
	switch {
	case took >= canaryLate:
		p.add(Warning, "canary", found, meaning, hint)
	case took >= canarySlow:
		p.add(Note, "canary", found, meaning, hint)
	default:
		p.ok("canary", "%s", found)
	}
}
