// Package nested tests blocks of one template engine inside those of others.
package nested
