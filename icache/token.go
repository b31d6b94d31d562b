package icache

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// Generation is the token that every fragment depends on. Incrementing it
// outdates everything at once.
const Generation = "*"

// Version is the sum, modulo 2^64, of the values of a set of tokens. Versions
// of the same tokens are compared for equality and nothing else.
type Version uint64

// String returns the version in decimal.
func (v Version) String() string { return strconv.FormatUint(uint64(v), 10) }

// Group returns the group token of a token: the text before the first colon,
// followed by ":*". The group of "movie:42" is "movie:*". A token without a
// colon has no group. Every fragment depends on the groups of its tokens, so
// that one increment of "movie:*" outdates all of "movie:1", "movie:2", ….
func Group(token string) (string, bool) {
	i := strings.IndexByte(token, ':')
	if i < 0 {
		return "", false
	}
	return token[:i+1] + "*", true
}

// HashToken returns the form in which a private value such as an e-mail
// address appears in a token: the first 32 hexadecimal digits of its SHA-256.
// It is what the filter in the template "user:{email|hash}" of the agent's
// configuration computes.
func HashToken(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:16])
}

// expand returns the tokens that a fragment with the given tokens depends on:
// sorted, without duplicates, with the groups and the generation.
func expand(tokens []string) []string {
	all := make([]string, 0, 2*len(tokens)+1)
	all = append(all, Generation)
	for _, t := range tokens {
		all = append(all, t)
		if g, ok := Group(t); ok {
			all = append(all, g)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// distinct returns the tokens sorted and without duplicates, and the argument
// itself if it is that already.
func distinct(tokens []string) []string {
	for i := 1; i < len(tokens); i++ {
		if tokens[i-1] >= tokens[i] {
			tokens = slices.Clone(tokens)
			slices.Sort(tokens)
			return slices.Compact(tokens)
		}
	}
	return tokens
}

// sum adds values up, wrapping around.
func sum(values []uint64) Version {
	var s uint64
	for _, v := range values {
		s += v
	}
	return Version(s)
}

// parseToken parses the value of a token strictly: decimal digits only.
func parseToken(b []byte) (v uint64, ok bool) {
	const safe = 19 // digits that cannot overflow
	if len(b) == 0 || len(b) > safe {
		v, err := strconv.ParseUint(string(b), 10, 64)
		return v, err == nil
	}
	for _, d := range b {
		if d -= '0'; d > 9 {
			return 0, false
		}
		v = 10*v + uint64(d)
	}
	return v, true
}

// keyPattern makes the Redis key of a token and back.
type keyPattern struct{ before, after string }

func parseKeyPattern(pattern string) (keyPattern, bool) {
	before, after, ok := strings.Cut(pattern, "{token}")
	if !ok || strings.Contains(after, "{token}") {
		return keyPattern{}, false
	}
	return keyPattern{before, after}, true
}

func (p keyPattern) key(token string) string { return p.before + token + p.after }

// token returns the token whose key is given.
func (p keyPattern) token(key string) (string, bool) {
	if len(key) < len(p.before)+len(p.after) || !strings.HasPrefix(key, p.before) || !strings.HasSuffix(key, p.after) {
		return "", false
	}
	return key[len(p.before) : len(key)-len(p.after)], true
}

// glob returns the pattern for SCAN that matches the keys of all tokens.
func (p keyPattern) glob() string { return globEscape(p.before) + "*" + globEscape(p.after) }

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

func globEscape(s string) string { return globEscaper.Replace(s) }
