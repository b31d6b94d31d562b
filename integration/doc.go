// Package integration tests the whole against real servers: the agent as a
// process of its own, a real Postgres, a real Redis, and the library beside them.
package integration
