package config

import "time"

// Settle is the time after which tokens are bumped once more, or [SettleReplicas].
type Settle time.Duration

// SettleReplicas means that tokens are bumped once more when every standby has
// replayed the change.
const SettleReplicas Settle = -1

const settleReplicas = "replicas"

// String returns the form in which a config has it.
func (s Settle) String() string {
	if s == SettleReplicas {
		return settleReplicas
	}
	return time.Duration(s).String()
}
