package cli

import (
	"encoding/json"
	"fmt"
)

const (
	shownChanges = 20
	shownTokens  = 50
	shownKeys    = 200 // characters
)

func (a *app) printExplain(out *explainOut) error {
	if a.json {
		return a.printJSON(out)
	}
	a.notes(out.Notes)
	if out.Redis != "ok" {
		a.notes([]string{"redis: " + out.Redis})
	}
	c := a.colours()
	for i, s := range out.Statements {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if s.Tag == "" {
			fmt.Fprintf(a.stdout, "%swhat waits for the commit%s\n", c.bold, c.reset)
		} else {
			fmt.Fprintf(a.stdout, "%s%s%s\n  %s\n", c.bold, brief(s.SQL), c.reset, s.Tag)
		}
		a.printChanges(s, c)
		a.printExplained(s, c)
	}
	fmt.Fprintf(a.stdout, "\n%srolled back; sequences and effects outside of the transaction are not undone%s\n", c.dim, c.reset)
	return nil
}

func (a *app) printChanges(s statementOut, c colours) {
	if len(s.Changes) == 0 {
		fmt.Fprintln(a.stdout, "  no rule fired")
		return
	}
	for i, change := range s.Changes {
		if i == shownChanges {
			fmt.Fprintf(a.stdout, "  … and %d more\n", len(s.Changes)-i+s.More)
			return
		}
		fmt.Fprintf(a.stdout, "  %s%s%s %s %s\n", c.cyan, printable(change.Table), c.reset, change.Op, keysText(change.Keys))
	}
}

// printExplained lists the tokens, and counts those that somebody has read.
func (a *app) printExplained(s statementOut, c colours) {
	known, exist := false, 0
	for i, t := range s.Tokens {
		state := ""
		if t.Exists != nil {
			known = true
			state = c.dim + "absent" + c.reset
			if *t.Exists {
				exist++
				state = c.green + "in redis" + c.reset
			}
		}
		switch {
		case i == shownTokens:
			fmt.Fprintf(a.stdout, "    … and %d more (--json has them all)\n", len(s.Tokens)-i)
		case i < shownTokens && state == "":
			fmt.Fprintf(a.stdout, "    %s\n", printable(t.Token))
		case i < shownTokens:
			fmt.Fprintf(a.stdout, "    %-30s %s\n", printable(t.Token), state)
		}
	}
	switch {
	case len(s.Tokens) > 0 && known:
		fmt.Fprintf(a.stdout, "  %s, %d in redis\n", plural(len(s.Tokens), "token"), exist)
	case len(s.Tokens) > 0:
		fmt.Fprintf(a.stdout, "  %s\n", plural(len(s.Tokens), "token"))
	}
}

// keysText shows the keys of a change to people.
func keysText(keys json.RawMessage) string {
	if keys == nil || string(keys) == "null" {
		return "(keys unknown: everything of the table)"
	}
	text := []rune(printable(string(keys)))
	if len(text) > shownKeys {
		return string(text[:shownKeys-1]) + "…"
	}
	return string(text)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
