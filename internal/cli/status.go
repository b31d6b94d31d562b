package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/internal/config"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask a running agent how it is",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, _, err := a.ask(cmd, "/status")
			if err != nil {
				return err
			}
			if a.json {
				_, err := a.stdout.Write(body)
				return err
			}
			var s agent.Status
			if err := json.Unmarshal(body, &s); err != nil {
				return fmt.Errorf("read the agent's status: %w", err)
			}
			return s.WriteText(a.stdout)
		},
	}
	config.RegisterFlags(cmd.Flags())
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) healthcheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit 0 if the agent on this machine is ready, for containers without a shell",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, code, err := a.ask(cmd, "/readyz")
			if err != nil {
				return err
			}
			if code != http.StatusOK {
				return fmt.Errorf("the agent is not ready: %s", strings.TrimSpace(string(body)))
			}
			return nil
		},
	}
	config.RegisterFlags(cmd.Flags())
	return cmd
}

// ask gets a path from the agent that the config describes.
func (a *app) ask(cmd *cobra.Command, path string) ([]byte, int, error) {
	cfg, err := a.load(cmd)
	if err != nil {
		return nil, 0, err
	}
	url, err := agentURL(cfg)
	if err != nil {
		return nil, 0, err
	}
	return get(cmd.Context(), url+path)
}

// agentURL is where the agent of the config answers.
func agentURL(cfg *config.Config) (string, error) {
	if cfg.HTTP.Listen == "" {
		return "", usageErrorf("http.listen is empty, so the agent cannot be asked")
	}
	host, port, err := net.SplitHostPort(cfg.HTTP.Listen)
	if err != nil {
		return "", usageErrorf("http.listen %q: %w", cfg.HTTP.Listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// get returns the body and the status of an answer.
func get(ctx context.Context, url string) ([]byte, int, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*net.OpError](err); ok {
			err = e
		}
		return nil, 0, unreachable(url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, 0, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return body, resp.StatusCode, nil
}

func unreachable(url string, err error) error {
	return fmt.Errorf("ask the agent at %s: %w (is it running with this config?)", url, err)
}
