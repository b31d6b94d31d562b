package outbox

import (
	"strings"
	"time"
)

// A canary is an outbox row of no table: its relation is icache.meta, and its
// keys are an array with one text. The agent sends some to itself, and tells of
// those that doctor sends by a key in Redis.

// CanaryOfDoctor begins the text of a canary of doctor; an id follows.
const CanaryOfDoctor = "doctor:"

// CanaryTTL is how long the key is kept.
const CanaryTTL = time.Minute

// CanaryKey returns the key in Redis, given that of the guard's lease, which
// lies beside it.
func CanaryKey(leaseKey, id string) string {
	return strings.TrimSuffix(leaseKey, "lease") + "canary:" + id
}
