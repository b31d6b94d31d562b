package localserver

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// postgresGlobs are where packages put the server's binaries, outside PATH as a rule.
var postgresGlobs = []string{
	"/usr/lib/postgresql/*/bin",            // Debian, Ubuntu
	"/usr/pgsql-*/bin",                     // PGDG on Red Hat
	"/usr/libexec/postgresql*",             // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",   // Homebrew on Apple silicon
	"/opt/homebrew/opt/postgresql/bin",     //
	"/usr/local/opt/postgresql@*/bin",      // Homebrew on Intel
	"/usr/local/opt/postgresql/bin",        //
	"/home/linuxbrew/.linuxbrew/opt/*/bin", // Homebrew on Linux
	"/usr/local/pgsql/bin",                 // built from source
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// FindPostgres returns the directory that holds initdb and postgres. It looks in
// PATH first, then asks pg_config, then takes the newest of the places where
// packages install them. The error wraps [ErrNotInstalled].
func FindPostgres() (binDir string, err error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		// PATH may hold a link or a wrapper; initdb finds its files relative to the real one.
		if target, err := filepath.EvalSymlinks(path); err == nil && hasPostgres(filepath.Dir(target)) {
			return filepath.Dir(target), nil
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		if dir := strings.TrimSpace(string(out)); hasPostgres(dir) {
			return dir, nil
		}
	}
	var found []string
	for _, glob := range postgresGlobs {
		dirs, _ := filepath.Glob(glob)
		for _, dir := range dirs {
			if hasPostgres(dir) {
				found = append(found, dir)
			}
		}
	}
	if len(found) == 0 {
		return "", fmt.Errorf("localserver: Postgres is %w: no initdb and postgres in PATH or the usual places", ErrNotInstalled)
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(majorOf(a), majorOf(b)) }), nil
}

// FindRedis returns the path of redis-server, or of valkey-server where only
// that is installed. The error wraps [ErrNotInstalled].
func FindRedis() (path string, err error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		for _, dir := range []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/opt/redis/bin"} {
			if path := filepath.Join(dir, name); isFile(path) {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("localserver: Redis is %w: no redis-server or valkey-server in PATH or the usual places", ErrNotInstalled)
}

func hasPostgres(dir string) bool {
	return isFile(filepath.Join(dir, "postgres")) && isFile(filepath.Join(dir, "initdb"))
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

var digits = regexp.MustCompile(`\d+`)

// majorOf reads the server's major version off a directory name, 0 if it has none.
func majorOf(dir string) int {
	major, _ := strconv.Atoi(digits.FindString(filepath.Base(strings.TrimSuffix(dir, "/bin"))))
	return major
}
