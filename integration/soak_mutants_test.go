package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mutant is an agent with a mistake, and what shows it.
type mutant struct {
	name   string
	patch  patch
	before func(g *ground) // under load
	ending func(g *ground) // just as the load ends, so that no later change covers it up
}

var mutants = []mutant{
	{
		name: "the cursor moves before the bump",
		patch: patch{"internal/agent/applier.go", "	if err := a.cache.IncrMany(ctx, tokens); err != nil {", `
	late := append([]string(nil), tokens...)
	go func() {
		time.Sleep(time.Second)
		_ = a.cache.IncrMany(context.WithoutCancel(ctx), late)
	}()
	if err := error(nil); err != nil {`},
		before: func(*ground) { time.Sleep(3 * time.Second) },
		ending: func(g *ground) {
			g.leader().kill()
			g.launch()
		},
	},
	{
		name:   "drain by the last id",
		patch:  patch{"listener/drain.go", "	ld.cursor = ld.cursor.through(now, last)\n", "	ld.cursor = snapshot{xmax: ld.cursor.through(now, last).xmax}\n"},
		before: func(*ground) { time.Sleep(3 * time.Second) },
		ending: func(*ground) {},
	},
	{
		name:  "nothing is bumped again after a failover",
		patch: patch{"internal/agent/agent.go", "	a.log.WarnContext(ctx, \"agent: bumping recent tokens again\"", "	if true {\n		return nil\n	}\n	a.log.WarnContext(ctx, \"agent: bumping recent tokens again\""},
		before: func(g *ground) {
			time.Sleep(time.Second)
			require.NoError(g.t, g.onRedis("save"))
			time.Sleep(2 * time.Second)
		},
		ending: func(g *ground) { g.restartRedis(true) },
	},
}

// TestSoakFindsMutants builds agents with mistakes: the check is good enough
// if it finds them. Mistakes of readers are in package soak.
func TestSoakFindsMutants(t *testing.T) {
	t.Parallel()
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			p := m.patch
			p.file = source(t, p.file)
			program := build(t, raceEnabled, p)
			var lost int
			for range 6 { // a row changed at the wrong moment hides what happened before
				if lost = soakMutant(t, m, program); lost > 0 {
					return
				}
			}
			t.Fatal("the mistake was not found")
		})
	}
	t.Run("none", func(t *testing.T) { // what shows the mistakes is not the way they are provoked
		t.Parallel()
		for _, m := range mutants {
			require.Zero(t, soakMutant(t, m, ""), m.name)
		}
	})
}

// soakMutant returns how many rows are stale for good.
func soakMutant(t *testing.T, m mutant, program string) int {
	t.Helper()
	g := newGround(t, fault{prepare: func(g *ground) { g.program = program }})
	cfg := load()
	cfg.Rows, cfg.Writers, cfg.AckTimeout = 40, 8, 2*time.Second
	if program != "" {
		cfg.Settle = 5 * time.Second
	}
	stop, end := g.stoppable(cfg)
	m.before(g)
	stop()
	m.ending(g)
	r := end()
	t.Logf("%s\n%s", m.name, r)
	require.NotZero(t, r.Commits)
	return r.Lost
}
