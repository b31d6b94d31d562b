package servers

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/localserver"
)

// standInJar packs this machine's Postgres the way the repository does: a jar
// that holds one .txz with bin, lib and share. (The programs find share where
// they were built to find it.)
func standInJar(t *testing.T) []byte {
	t.Helper()
	binDir, err := localserver.FindPostgres()
	require.NoError(t, err)
	tree := t.TempDir()
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		copyFile(t, filepath.Join(binDir, name), filepath.Join(tree, "bin", name))
	}
	for _, name := range []string{"plpgsql.so", "dict_snowball.so"} { // what initdb loads
		path := filepath.Join(filepath.Dir(binDir), "lib", name)
		if _, err := os.Stat(path); err != nil {
			t.Skipf("this Postgres keeps its modules elsewhere: %v", err)
		}
		copyFile(t, path, filepath.Join(tree, "lib", name))
	}
	txz := filepath.Join(t.TempDir(), "postgres.txz")
	cmd := exec.CommandContext(t.Context(), "tar", "-cJf", txz, "-C", tree, ".")
	cmd.Env = append(os.Environ(), "XZ_OPT=-0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("cannot pack the stand-in with tar and xz: %v: %s", err, out)
	}
	body, err := os.ReadFile(txz)
	require.NoError(t, err)
	var jar bytes.Buffer
	w := zip.NewWriter(&jar)
	entry, err := w.Create("postgres-linux.txz")
	require.NoError(t, err)
	_, err = entry.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return jar.Bytes()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	body, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	require.NoError(t, os.WriteFile(to, body, 0o755))
}

func TestEmbeddedPostgres(t *testing.T) {
	t.Parallel()
	jar := standInJar(t)
	sum := sha256.Sum256(jar)
	var served atomic.Int32
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, ".jar"):
			served.Add(1)
			_, _ = w.Write(jar)
		case strings.HasSuffix(r.URL.Path, ".jar.sha256"):
			_, _ = w.Write([]byte(hex.EncodeToString(sum[:])))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(repository.Close)

	f, out := finder(t, "", map[string]string{EnvPostgres: "embedded", EnvPostgresRepository: repository.URL})
	before := leftovers(t)
	pg, err := f.Postgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = pg.Close() })
	require.EqualValues(t, 1, served.Load())
	require.Contains(t, out.text(), "Downloading Postgres")
	requirePostgres(t, pg)
	require.Greater(t, len(leftovers(t)), len(before))
	requireGone(t, pg, pingPostgres)
	require.Equal(t, before, leftovers(t))
}

func TestEmbeddedPostgresUnreachable(t *testing.T) {
	t.Parallel()
	f, _ := finder(t, "", map[string]string{EnvPostgres: "embedded", EnvPostgresRepository: "http://127.0.0.1:1"})
	_, err := f.Postgres(t.Context())
	require.ErrorContains(t, err, "cannot reach the download")
}

// leftovers lists the temporary directories of downloads.
func leftovers(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		dirs, err := filepath.Glob(filepath.Join(parent, "icache-demo-postgres-*"))
		require.NoError(t, err)
		found = append(found, dirs...)
	}
	return found
}
