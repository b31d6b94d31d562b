package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/internal/soak"
)

const soakRules = `  - table: icache_soak.counts
    tokens: ["count:{{{id}}}", "counted:{{{id}}}:{n}"]
`

// soakDefault is how long each fault is repeated when nobody says how long.
const soakDefault = 3 * time.Second

// healthy is how long everything works between two faults, for caches to fill.
const healthy = 300 * time.Millisecond

// soakTime is what an environment variable says: ICACHE_SOAK_EACH, how long each
// fault is repeated, or ICACHE_SOAK, how long the long run lasts.
func soakTime(t *testing.T, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, name)
	return d
}

// load is what the servers of a test bear beside everything else on the machine.
func load() soak.Config {
	return soak.Config{Rows: 20, Writers: 4, Readers: 4, AckTimeout: 45 * time.Second, Settle: time.Minute}
}

// outcome is what one fault did.
type outcome struct {
	soak.Report
	times    int
	recovery time.Duration // the longest
}

// forgetsFor is how long after Redis has forgotten something that may be read,
// at most: the agent looks every second, and this machine may be slow.
const forgetsFor = 10 * time.Second

// TestSoak does every fault under load, again and again, and requires that no
// read breaks the promise and that nothing is lost. With -v it ends with the
// table of docs/reliability.md.
func TestSoak(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	outcomes := make(map[string]outcome)
	t.Run("faults", func(t *testing.T) {
		slots := make(chan struct{}, 2) // more at a time measure this machine and nothing else
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				o := soakFault(t, f)
				mu.Lock()
				defer mu.Unlock()
				outcomes[f.name] = o
			})
		}
	})
	t.Log(table(outcomes))
}

func table(outcomes map[string]outcome) string {
	var b strings.Builder
	fmt.Fprintln(&b, "\n| fault | times | commits | reads | lost | stale after acknowledgement | the same, after Redis forgot it | longest stale read | recovery |")
	fmt.Fprintln(&b, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, f := range faults {
		o, ok := outcomes[f.name]
		if !ok {
			continue
		}
		forgotten := "0"
		if o.Forgotten > 0 {
			forgotten = fmt.Sprintf("%d, for %.1f s", o.Forgotten, o.ForgotMax/1000)
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %s | %.2f s | %.2f s |\n", f.name, o.times, o.Commits, o.Reads,
			o.Lost, o.Violations, forgotten, o.StaleMax/1000, o.recovery.Seconds())
	}
	return b.String()
}

func soakFault(t *testing.T, f fault) outcome {
	t.Helper()
	d := soakTime(t, "ICACHE_SOAK_EACH", soakDefault)
	g := newGround(t, f)
	end := g.start(load())
	times := 0
	for deadline := time.Now().Add(d); time.Now().Before(deadline) && !t.Failed(); times++ {
		f.do(g)
		time.Sleep(healthy)
	}
	o := outcome{Report: end(), times: times, recovery: slices.Max(append(g.recoveries, 0))}
	t.Logf("%s: %d times\n%s", f.name, times, o)
	requireKept(t, o.Report)
	if f.guarded {
		require.Zero(t, o.Forgotten, "with the guard nothing is read that Redis forgot")
	}
	return o
}

// requireKept requires that every promise was kept: nothing that was acknowledged
// and not forgotten by Redis was read stale, nothing is stale at the end, and
// every commit was acknowledged.
func requireKept(t *testing.T, r soak.Report) {
	t.Helper()
	require.Zero(t, r.Violations, "reads that began after the acknowledgement yielded older data")
	require.Zero(t, r.Lost, "rows that never became fresh again")
	require.Zero(t, r.Unacked, "commits that were never acknowledged")
	require.LessOrEqual(t, r.ForgotMax, float64(forgetsFor.Milliseconds()), "ms after Redis forgot, what it forgot is still read")
	require.NotZero(t, r.Commits)
	require.NotZero(t, r.Hits)
}

// postgresBinDir is where the programs of the servers are that tests start.
func postgresBinDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(servertest.PostgresBinDirEnv); dir != "" {
		return dir
	}
	dir, err := localserver.FindPostgres()
	if err != nil {
		t.Skip(err)
	}
	return dir
}
