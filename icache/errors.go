package icache

import (
	"errors"
	"fmt"
)

var (
	// ErrMiss reports that no fragment is stored under a key, or that the
	// stored one has another version.
	ErrMiss = errors.New("icache: miss")

	// ErrBusy reports that [WithFallbackLimit] computations are already
	// running uncached and that the context ended before one of them did.
	ErrBusy = errors.New("icache: too many uncached computations")

	// ErrContextTimeout is reported once to [Hooks.Error] by [New] for a
	// cluster client without ContextTimeoutEnabled: go-redis then ignores
	// context deadlines on its sockets, and a hanging server holds a Fetch for
	// the client's ReadTimeout instead of [WithTimeout].
	ErrContextTimeout = errors.New("icache: set ContextTimeoutEnabled in redis.ClusterOptions, or a hanging server delays each Fetch by ReadTimeout")
)

// IncrError reports that some tokens have not been incremented for certain.
// All others have been. Incrementing a token once more is harmless, so the
// answer to an IncrError is to call IncrMany again with its Tokens.
type IncrError struct {
	// Tokens have not been acknowledged. They may have been incremented all
	// the same, if only the reply was lost.
	Tokens []string
	// Err is the first error.
	Err error
}

func (e *IncrError) Error() string {
	if len(e.Tokens) == 1 {
		return fmt.Sprintf("icache: increment %q: %v", e.Tokens[0], e.Err)
	}
	return fmt.Sprintf("icache: increment %d tokens, the first is %q: %v", len(e.Tokens), e.Tokens[0], e.Err)
}

// Unwrap returns Err.
func (e *IncrError) Unwrap() error { return e.Err }

// TokenError reports a token key that holds something else than a token.
// Incrementing the token repairs it.
type TokenError struct {
	Token string // as the application names it
	Key   string // in Redis
	Value string // what the key holds, shortened
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("icache: token %q: %s holds %q, want a decimal integer", e.Token, e.Key, e.Value)
}

// redisError gives an error from Redis its context and, for the two errors
// that mean a wrong kind of client, the way out.
func redisError(op string, err error) error {
	if isClusterError(err) {
		return fmt.Errorf("icache: %s: %w (the server is a node of a Redis Cluster: use redis.NewClusterClient)", op, err)
	}
	return fmt.Errorf("icache: %s: %w", op, err)
}
