package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/icache-go/icache-agent/internal/agent"
)

// missedKind is the kind of an event that stands for those that were missed.
const missedKind = "missed"

// missedOut is what it is printed as.
type missedOut struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Missed int       `json:"missed"`
}

// eventJSON prints an event in a line, as the agent has sent it.
func (a *app) eventJSON(e agent.Event, raw []byte) error {
	if e.Kind == missedKind {
		var err error
		if raw, err = json.Marshal(missedOut{e.Time, e.Kind, e.More}); err != nil {
			return err
		}
	}
	return written(fmt.Fprintf(a.stdout, "%s\n", raw))
}

// eventText prints an event for people.
func (a *app) eventText(c colours) func(agent.Event, []byte) error {
	return func(e agent.Event, _ []byte) error {
		at := c.dim + e.Time.Local().Format("15:04:05.000") + c.reset
		switch e.Kind {
		case missedKind:
			return written(fmt.Fprintf(a.stdout, "%s %smissed %s%s\n", at, c.yellow, plural(e.More, "event"), c.reset))
		case "change":
		default:
			return written(fmt.Fprintf(a.stdout, "%s %s%s: everything is outdated%s %s\n", at, c.red, printable(e.Kind), c.reset, printable(e.Reason)))
		}
		tokens := make([]string, 0, len(e.Tokens)+1)
		for _, t := range e.Tokens {
			tokens = append(tokens, printable(t))
		}
		if e.More > 0 {
			tokens = append(tokens, fmt.Sprintf("… and %d more", e.More))
		}
		ops := map[string]string{"insert": c.green, "update": c.yellow, "delete": c.red, "truncate": c.red}
		return written(fmt.Fprintf(a.stdout, "%s %s%s%s %s%s%s %s%s%s → %s\n", at, c.bold, printable(e.Table), c.reset,
			ops[e.Op], e.Op, c.reset, c.dim, keysText(e.Keys), c.reset, c.cyan+strings.Join(tokens, " ")+c.reset))
	}
}

func written(_ int, err error) error {
	if err != nil {
		return errors.Join(errOutput, err)
	}
	return nil
}
