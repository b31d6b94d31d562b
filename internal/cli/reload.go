package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/config"
)

// loader returns what a running agent reads its config again with, given the
// one that it was started with.
func (a *app) loader(opts config.Options, started *config.Config, log *slog.Logger) func(context.Context) (*agent.Loaded, error) {
	opts.File = started.File() // the one that was found must not go missing
	return func(ctx context.Context) (*agent.Loaded, error) {
		cfg, warnings, err := config.Load(opts)
		if err != nil {
			return nil, err
		}
		for _, w := range warnings {
			log.WarnContext(ctx, "agent: config", "warning", w)
		}
		loaded := &agent.Loaded{Rules: cfg.Rules(), Restart: config.NeedRestart(started, cfg), Discover: len(cfg.Patterns()) > 0}
		if len(cfg.Patterns()) > 0 {
			// The database of before: the settings of the connection take a restart.
			cfg.Postgres = started.Postgres
			var notes []string
			if loaded.Rules, notes, err = expandOnce(ctx, cfg); err != nil {
				return nil, laterIfAway(err)
			}
			for _, n := range notes {
				log.WarnContext(ctx, "agent: config", "warning", n)
			}
		}
		return loaded, nil
	}
}

// laterIfAway tells a database that is away from a config with mistakes.
func laterIfAway(err error) error {
	if isConfigError(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, agent.ErrLater)
}

// reloads has the agent read its config again on SIGHUP and, with watch, when
// the file changes. The function it returns ends that.
func reloads(ctx context.Context, ag *agent.Agent, file string, watch bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				ag.Reload(ctx, "SIGHUP")
			}
		}
	})
	if watch {
		wg.Go(func() {
			config.Watch(ctx, file, config.DefaultWatch, func() { ag.Reload(ctx, file+" has changed") })
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
