package harness

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/icache-go/icache-agent/internal/servertest"
)

const startTimeout = 5 * time.Minute

// Main is the TestMain of packages whose tests run against what the ladder
// finds: package servertest then gives its tests databases of that server.
func Main(m *testing.M, options ...goleak.Option) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	servers, err := Start(ctx, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, servers)
	for _, setting := range servers.Env() {
		name, value, _ := strings.Cut(setting, "=")
		if err := os.Setenv(name, value); err != nil {
			panic(err) // neither the name nor the value can be one that is refused
		}
	}
	servertest.OnExit(servers)
	servertest.Main(m, options...)
}
