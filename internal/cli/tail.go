package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/config"
	"github.com/icache-go/icache-agent/internal/glob"
	"github.com/icache-go/icache-agent/mapping"
)

const (
	// tailSilence is how long a stream may be silent: the agent says every 15
	// seconds that it is alive.
	tailSilence   = 45 * time.Second
	tailMinWait   = 200 * time.Millisecond
	tailMaxWait   = 5 * time.Second
	tailMaxLine   = 32 << 20 // an event lists up to max_keys keys
	tailConnectIn = 5 * time.Second
)

func (a *app) tailCommand() *cobra.Command {
	var f tailFilter
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print changes and their tokens as a running agent applies them",
		Long: `Prints every change that the agent at http.listen applies, with its tokens: in colour on a
terminal (see NO_COLOR), else as JSON, one event in a line. Comes back by itself when the agent
restarts, and says when it has missed events. The agent never waits for it.

  icache-agent tail
  icache-agent tail --table movies --op update --op delete
  icache-agent tail --token 'movie:4*' | jq -r '.tokens[]'

With several agents, ask the one that leads; the others apply nothing.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, op := range f.ops {
				if _, err := parseOp(op); err != nil {
					return err
				}
			}
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			url, err := agentURL(cfg)
			if err != nil {
				return err
			}
			t := &tail{url: url, filter: f, print: a.eventText(a.colours()), note: func(n string) { a.notes([]string{n}) }}
			if a.json || !cmd.Flags().Changed("json") && !isTerminal(a.stdout) {
				t.print = a.eventJSON
			}
			return t.follow(cmd.Context())
		},
	}
	cmd.Flags().StringSliceVar(&f.tables, "table", nil, "only changes of these `tables`; * and ? are wildcards")
	cmd.Flags().StringSliceVar(&f.ops, "op", nil, "only these `operations`: insert, update, delete, truncate")
	cmd.Flags().StringSliceVar(&f.tokens, "token", nil, "only changes that outdate `tokens` like these; * and ? are wildcards")
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

// tailFilter says which events to print. Resets concern everything and are
// always printed.
type tailFilter struct{ tables, ops, tokens []string }

func (f tailFilter) wants(e agent.Event) bool {
	if e.Kind != "change" {
		return true
	}
	table := func(pattern string) bool {
		if t, err := mapping.ParseTableName(pattern); err == nil && t.String() == e.Table {
			return true
		}
		return glob.Match(pattern, e.Table) || glob.Match(mapping.DefaultSchema+"."+pattern, e.Table)
	}
	// A group token outdates what the pattern means as well: movie:* is of
	// interest to somebody who waits for movie:42.
	token := func(pattern string) bool {
		return slices.ContainsFunc(e.Tokens, func(t string) bool {
			isGroup := t == mapping.Generation || strings.HasSuffix(t, ":*")
			return glob.Match(pattern, t) || isGroup && glob.Match(t, pattern)
		})
	}
	return (len(f.tables) == 0 || slices.ContainsFunc(f.tables, table)) &&
		(len(f.ops) == 0 || slices.Contains(f.ops, e.Op)) &&
		(len(f.tokens) == 0 || e.More > 0 || slices.ContainsFunc(f.tokens, token))
}

// tail follows the events of an agent.
type tail struct {
	url    string
	filter tailFilter
	print  func(e agent.Event, raw []byte) error
	note   func(string)

	started string // of the process whose events were read last
	last    uint64 // number of its last event
}

// errOutput says that nobody reads what is printed any more.
var errOutput = errors.New("write the events")

// follow prints events until the context ends. Only an agent that cannot be
// reached at first is an error.
func (t *tail) follow(ctx context.Context) error {
	wait := tailMinWait
	for first := true; ; first = false {
		connected, err := t.stream(ctx, first)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errOutput), first && !connected:
			return err
		}
		if connected {
			wait = tailMinWait
			t.note(fmt.Sprintf("lost the agent (%s), trying again", oneLine(err)))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, tailMaxWait)
	}
}

// stream prints the events of one connection. It reports whether there was one.
func (t *tail) stream(ctx context.Context, first bool) (connected bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(tailConnectIn, func() { cancel(errors.New("it does not answer")) })
	defer silence.Stop()
	path := t.url + "/events"
	if first {
		path += "?recent=0" // later, the recent ones fill the gap
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, unreachable(t.url, cause(ctx, err))
	}
	defer resp.Body.Close()
	started := resp.Header.Get(agent.StartedHeader)
	if resp.StatusCode != http.StatusOK || started == "" {
		return false, fmt.Errorf("%s is not an agent: %s (check http.listen)", path, resp.Status)
	}
	t.connect(ctx, started, first)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, tailMaxLine)
	for {
		silence.Reset(tailSilence)
		if !lines.Scan() {
			break
		}
		data, isData := strings.CutPrefix(lines.Text(), "data: {")
		if !isData {
			continue
		}
		if err := t.event([]byte("{" + data)); err != nil {
			return true, err
		}
	}
	if err := lines.Err(); err != nil {
		return true, cause(ctx, err)
	}
	return true, errors.New("it has closed the connection")
}

// connect takes note of whose events follow.
func (t *tail) connect(ctx context.Context, started string, first bool) {
	switch {
	case first:
	case started == t.started:
		t.note("back")
	default:
		t.note("the agent has restarted; changes before its recent ones were missed")
		t.last = 0
	}
	t.started = started
	body, _, err := get(ctx, t.url+"/status")
	var s agent.Status
	if err == nil && json.Unmarshal(body, &s) == nil && !s.Postgres.Leader && s.Ready {
		t.note("this agent stands by, another one applies the changes")
	}
}

// event prints an event, and says how many before it were missed.
func (t *tail) event(raw []byte) error {
	var e agent.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	if e.Seq <= t.last {
		return nil // seen before the connection was lost
	}
	if missed := e.Seq - t.last - 1; t.last > 0 && missed > 0 {
		if err := t.print(agent.Event{Kind: missedKind, Time: e.Time, More: int(missed)}, nil); err != nil {
			return err
		}
	}
	t.last = e.Seq
	if !t.filter.wants(e) {
		return nil
	}
	return t.print(e, raw)
}

// cause prefers what ended the context on purpose.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	return err
}
