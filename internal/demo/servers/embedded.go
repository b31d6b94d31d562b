package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	embeddedVersion    = embeddedpostgres.V17
	embeddedRepository = "https://repo1.maven.org/maven2"
	downloadLimit      = 3 * time.Minute
)

// embeddedPostgres downloads the programs with embedded-postgres, which knows
// where the right build for this machine is, checks it and unpacks it. The
// server is then started like any local one: started by embedded-postgres it
// would refuse to run as root and would outlive a demo that is killed.
func (f *Finder) embeddedPostgres(ctx context.Context) (_ *Server, err error) {
	repository := or(f.Getenv(EnvPostgresRepository), embeddedRepository)
	if err := reachable(ctx, repository); err != nil {
		return nil, err
	}
	parent := "" // TMPDIR
	if os.Geteuid() == 0 {
		parent = "/tmp" // the server runs as another user, who must be able to get there
	}
	dir, err := os.MkdirTemp(parent, "icache-demo-postgres-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	f.Say(fmt.Sprintf("Downloading Postgres %s from %s into a temporary directory", embeddedVersion, repository))
	binDir, err := unpackEmbedded(ctx, repository, dir)
	if err != nil {
		return nil, err
	}
	s, err := f.startPostgres(ctx, binDir, "started from a download")
	if err != nil {
		return nil, err
	}
	stop := s.close
	s.close = func() error { return errors.Join(stop(), os.RemoveAll(dir)) }
	return s, nil
}

// unpackEmbedded has embedded-postgres download and unpack its programs into
// dir and returns where they are.
func unpackEmbedded(ctx context.Context, repository, dir string) (binDir string, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return "", err
	}
	run, data := filepath.Join(dir, "run"), filepath.Join(dir, "data")
	db := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(embeddedVersion).
		BinaryRepositoryURL(repository).
		CachePath(filepath.Join(dir, "cache")).
		BinariesPath(filepath.Join(dir, "postgres")).
		RuntimePath(run).
		DataPath(data).
		Port(port).
		StartParameters(map[string]string{"unix_socket_directories": dir, "listen_addresses": "127.0.0.1"}).
		Logger(io.Discard))
	done := make(chan error, 1)
	go func() { // Start takes no context
		defer func() {
			if p := recover(); p != nil { // it panics if its files go away, as they do on Ctrl-C
				done <- fmt.Errorf("embedded-postgres: %v", p)
			}
		}()
		err := db.Start()
		if err == nil {
			err = db.Stop()
		}
		done <- err
	}()
	var startErr error
	select {
	case startErr = <-done:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-time.After(downloadLimit):
		return "", fmt.Errorf("the download did not finish within %s", downloadLimit)
	}
	binDir = filepath.Join(dir, "postgres", "bin")
	// As root its start always fails, after it has unpacked the programs.
	if _, err := os.Stat(filepath.Join(binDir, "postgres")); err != nil {
		return "", errors.Join(startErr, err)
	}
	if startErr != nil && os.Geteuid() != 0 {
		return "", startErr
	}
	return binDir, errors.Join(os.RemoveAll(filepath.Join(dir, "cache")), os.RemoveAll(run), os.RemoveAll(data))
}

// reachable is nil if the repository answers at all. embedded-postgres itself
// would wait for a silent network for minutes.
func reachable(ctx context.Context, repository string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, repository, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the download: %w", err)
	}
	return resp.Body.Close()
}
