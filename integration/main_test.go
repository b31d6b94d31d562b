package integration

import (
	"testing"

	"github.com/icache-go/icache-agent/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
