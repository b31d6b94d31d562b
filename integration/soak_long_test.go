package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	longDefault = 10 * time.Second // ICACHE_SOAK has it last longer
	longPause   = 2 * time.Second  // between two faults, at most
	alsoKill    = 3                // every so many-th fault hits while the leader is killed as well
)

// TestSoakLong does faults in random order to one set of servers, every few
// seconds: Postgres with a standby, Redis with a replica, three agents. Now and
// then the leader is killed while something else goes wrong. ICACHE_SOAK_SEED
// repeats the order of another run.
func TestSoakLong(t *testing.T) {
	t.Parallel()
	d := soakTime(t, "ICACHE_SOAK", longDefault)
	seed := rand.Uint64()
	if text := os.Getenv("ICACHE_SOAK_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "ICACHE_SOAK_SEED")
	}
	t.Logf("ICACHE_SOAK_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	var choice []fault
	for _, f := range faults {
		if f.long {
			choice = append(choice, f)
		}
	}
	g := newGround(t, fault{standby: true, replica: true, agents: 2})
	end := g.start(load())
	outcomes := make(map[string]*outcome)
	began, total := time.Now(), 0
	for order := []int(nil); time.Since(began) < d && !t.Failed(); total++ {
		if len(order) == 0 {
			order = random.Perm(len(choice)) // each of them once, then again
		}
		f := choice[order[0]]
		order = order[1:]
		what, before, done := f.name, g.check.Violations(), len(g.recoveries)
		if random.IntN(alsoKill) == 0 {
			what += ", while the leader is killed"
			victim := g.leader()
			g.launch()
			time.AfterFunc(time.Duration(random.Int64N(int64(time.Second))), victim.kill)
		}
		f.do(g)
		o := outcomes[f.name]
		if o == nil {
			o = &outcome{}
			outcomes[f.name] = o
		}
		o.times++
		o.recovery = max(o.recovery, slices.Max(append(g.recoveries[done:], 0)))
		t.Logf("%7s  %s: %v, %d commits", time.Since(began).Round(100*time.Millisecond), what, g.recoveries[done:], g.check.Commits())
		require.Equal(t, before, g.check.Violations(), "a read broke the promise")
		time.Sleep(healthy + time.Duration(random.Int64N(int64(longPause))))
	}
	r := end()
	var b strings.Builder
	for _, f := range choice {
		if o := outcomes[f.name]; o != nil {
			fmt.Fprintf(&b, "| %s | %d | %.2f s |\n", f.name, o.times, o.recovery.Seconds())
		}
	}
	t.Logf("seed %d, %d faults\n%s\n| fault | times | longest recovery |\n| --- | --- | --- |\n%s", seed, total, r, &b)
	requireKept(t, r)
}
