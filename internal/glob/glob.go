// Package glob matches names and tokens with the wildcards * (any text, also
// none) and ? (one character). Nothing else is special.
package glob

// Match reports whether all of s matches the pattern.
func Match(pattern, s string) bool {
	p, text := []rune(pattern), []rune(s)
	star, retry := -1, 0 // the last *, and where the text after what it takes begins
	i, j := 0, 0
	for j < len(text) {
		switch {
		case i < len(p) && p[i] == '*':
			star, retry = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == text[j]):
			i++
			j++
		case star >= 0:
			retry++
			i, j = star+1, retry
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
