package localserver

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Many processes start servers at once; each sweeps before it starts its own.
// Directories of the living stay, those of the dead go.
func TestSweepTakesOnlyLeftovers(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	leftover := filepath.Join(parent, homePrefix+"LEFT")
	require.NoError(t, os.Mkdir(leftover, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(leftover, "lock"), nil, 0o600))

	homes := make([]*home, 200)
	var wg sync.WaitGroup
	for i := range homes {
		wg.Go(func() {
			sweep(parent)
			if h, err := lockedHome(parent); err == nil {
				homes[i] = h
			}
		})
	}
	wg.Wait()
	sweep(parent)
	require.NoDirExists(t, leftover)
	for _, h := range homes {
		require.NotNil(t, h, "the directory was swept while it was being made")
		require.DirExists(t, h.path)
		require.NoError(t, h.remove())
	}
}
