package listener

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// explore returns the first thing that is found wrong, and the number of states.
func explore(mu mutant, writers int, crashes, flips byte) (wrong string, states int) {
	begin := model{next: 3, cursor: modelCursor{xmax: 3}, saved: modelCursor{xmax: 3}, crashes: crashes, flips: flips}
	for i := writers; i < modelWriters; i++ {
		begin.writers[i].state = writerAborted
	}
	seen := map[model]struct{}{begin: {}}
	queue := []model{begin}
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		if w := m.wrong(); w != "" {
			return w, len(seen)
		}
		for _, n := range m.successors(mu) {
			if mu.clearLate && m.agent == agentRead && n.agent == agentApplied {
				n.rung = false
			}
			if _, ok := seen[n]; !ok {
				seen[n] = struct{}{}
				queue = append(queue, n)
			}
		}
	}
	return "", len(seen)
}

func TestModelOfDoorbellDrainAndRotation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ writers, crashes, flips int }{{2, 1, 2}, {2, 2, 0}, {3, 0, 0}} {
		wrong, states := explore(mutant{}, c.writers, byte(c.crashes), byte(c.flips))
		require.Empty(t, wrong)
		t.Logf("%d writers, %d crashes, %d changes of the table in use: %d states", c.writers, c.crashes, c.flips, states)
		require.Greater(t, states, 10_000)
	}
}

func TestModelFindsMutants(t *testing.T) {
	t.Parallel()
	for name, mu := range map[string]mutant{
		"no poll after the lock":                {sleepWithoutPoll: true},
		"poll before the lock":                  {pollBeforeLock: true},
		"failed lock ignored":                   {sleepWithoutLock: true},
		"last id":                               {lastID: true},
		"open transactions forgotten":           {forgetOpen: true},
		"older transactions forgotten":          {forgetOlder: true},
		"saved before flushed":                  {saveEarly: true},
		"listen late":                           {listenLate: true},
		"notifications during a poll forgotten": {clearLate: true},
		"writer unlocks early":                  {unlockEarly: true},
		"writer does not ring":                  {noRing: true},
		"a part taken for the whole":            {cutIsAll: true},
		"emptied with unread rows":              {emptyUnread: true},
		"emptied while in use":                  {emptyUnlocked: true},
		"emptied later than looked at":          {emptyLater: true},
		"emptied before flushed":                {emptyEarly: true},
		"only the table in use is read":         {oneTable: true},
		"file saved after the table is emptied": {filesLater: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong, states := explore(mu, 2, 1, 1)
			require.NotEmpty(t, wrong, "the model must find this out, after %d states", states)
		})
	}
}
