// Package icache caches fragments (any bytes) in Redis without timeouts.
package icache
