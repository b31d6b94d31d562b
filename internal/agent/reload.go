package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/icache-go/icache-agent/mapping"
)

// Loaded is a config that was read again.
type Loaded struct {
	Rules []mapping.Rule
	// Restart names the settings that are not those the agent was started with
	// and that take effect only when it is started again.
	Restart []string
	// Discover is that of [Config], which the rules may need now, or no more.
	Discover bool
}

// ErrLater is wrapped by errors of Config.Load that pass by themselves, such as
// a server that is away. The config is read again every few seconds then.
var ErrLater = errors.New("will be tried again")

const reloadAgain = 2 * time.Second

// ConfigStatus is what /status says about the config.
type ConfigStatus struct {
	Loaded time.Time `json:"loaded"`          // when the rules in use were read
	Error  string    `json:"error,omitempty"` // why the last attempt to read them again failed
	Failed time.Time `json:"failed,omitzero"`
	// RestartNeeded names changed settings that take a restart.
	RestartNeeded []string `json:"restart_needed,omitempty"`
}

// String says it in one line.
func (s ConfigStatus) String() string {
	text := "read " + ago(s.Loaded)
	if s.Error != "" {
		text = "NOT RELOADED " + ago(s.Failed) + ", the rules are those read " + ago(s.Loaded) + ": " + s.Error
	}
	if len(s.RestartNeeded) > 0 {
		text += "; restart the agent for " + strings.Join(s.RestartNeeded, ", ")
	}
	return text
}

// reloadState is how the last reload went.
type reloadState struct {
	one        sync.Mutex // held during a reload
	mu         sync.Mutex
	s          ConfigStatus
	again      bool          // whether the next attempt is due by itself
	discovered chan struct{} // has the config read again
}

func (r *reloadState) status() ConfigStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.s
}

func (r *reloadState) succeeded(restart []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.s = ConfigStatus{Loaded: time.Now(), RestartNeeded: restart}
}

func (r *reloadState) failed(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.s.Error, r.s.Failed = text, time.Now()
}

// later has the config read again after a while, once for any number of failures.
func (r *reloadState) later() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again {
		return
	}
	r.again = true
	time.AfterFunc(reloadAgain, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.again = false
		select {
		case r.discovered <- struct{}{}:
		default:
		}
	})
}

// Reload reads the config again and has its rules take the place of the present
// ones, within a heartbeat of the listener. If there is anything wrong with the
// config the present rules stay; the log, the metrics and the status say so.
//
// Changes that were applied before are not mapped again, so everything that a
// new or a changed rule may have missed is outdated once, as if its whole table
// had changed. The same is done by an agent that starts with other rules than
// those by which changes were applied last.
func (a *Agent) Reload(ctx context.Context, reason string) {
	a.reload.one.Lock()
	defer a.reload.one.Unlock()
	loaded, m, err := a.load(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
		a.reload.failed(text)
		a.metrics.reloadOK.Set(0)
		a.log.ErrorContext(ctx, "agent: the config was not reloaded, the rules stay as they are", "reason", reason, "error", text)
		if errors.Is(err, ErrLater) {
			a.reload.later()
		}
		return
	}
	a.applier.installed.discover(loaded.Discover, a.reload.discovered)
	added, changed, removed := difference(a.mapper.Load(), m)
	a.mapper.Store(m)
	a.listener.Refresh()
	a.reload.succeeded(loaded.Restart)
	a.metrics.reloaded()
	a.log.InfoContext(ctx, "agent: config reloaded", "reason", reason, "tables", len(m.Rules()),
		"added", strings.Join(added, " "), "changed", strings.Join(changed, " "), "removed", strings.Join(removed, " "))
	if len(loaded.Restart) > 0 {
		a.log.WarnContext(ctx, "agent: changed settings take effect only when the agent is started again",
			"settings", strings.Join(loaded.Restart, " "))
	}
}

func (a *Agent) load(ctx context.Context) (*Loaded, *mapping.Mapper, error) {
	if a.cfg.Load == nil {
		return nil, nil, errors.New("the agent was started without a config that can be read again")
	}
	loaded, err := a.cfg.Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	m, err := mapping.Compile(loaded.Rules)
	return loaded, m, err
}

// difference returns the tables whose rules differ, sorted.
func difference(before, after *mapping.Mapper) (added, changed, removed []string) {
	for _, r := range after.Rules() {
		name := r.Rule.Table.String()
		switch old := before.Rule(name); {
		case old == nil:
			added = append(added, name)
		case !sameRule(old, r):
			changed = append(changed, name)
		}
	}
	for _, r := range before.Rules() {
		if name := r.Rule.Table.String(); after.Rule(name) == nil {
			removed = append(removed, name)
		}
	}
	slices.Sort(added)
	slices.Sort(changed)
	slices.Sort(removed)
	return added, changed, removed
}

func sameRule(a, b *mapping.CompiledRule) bool {
	x, y := a.Rule, b.Rule
	return slices.Equal(x.Tokens, y.Tokens) && slices.Equal(x.On, y.On) && slices.Equal(x.Columns, y.Columns) &&
		x.When == y.When && x.MaxKeys == y.MaxKeys && x.Always == y.Always && x.Settle == y.Settle && x.SettleReplicas == y.SettleReplicas
}

// discover reads the config again when a table has triggers and no rule, or when
// it could not be read, until ctx ends.
func (a *Agent) discover(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.reload.discovered:
			a.Reload(ctx, "a migration added triggers, or what was away may be back")
		}
	}
}
