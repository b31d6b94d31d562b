package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// printable makes a text from the database or from Redis harmless on a
// terminal: what is not printable is written as an escape, \x1b.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			b.WriteRune(r)
		case r < 0x80 || r == unicode.ReplacementChar:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// isTerminal reports whether somebody is looking.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// colours are the escape sequences for text on a terminal; the zero value has none.
type colours struct{ dim, bold, red, green, yellow, cyan, reset string }

// colours returns those to use on stdout. See https://no-color.org.
func (a *app) colours() colours {
	if !isTerminal(a.stdout) || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return colours{}
	}
	return ansi
}

var ansi = colours{
	dim: "\x1b[2m", bold: "\x1b[1m", red: "\x1b[31m", green: "\x1b[32m", yellow: "\x1b[33m", cyan: "\x1b[36m", reset: "\x1b[0m",
}
