package cli

import (
	"github.com/spf13/cobra"

	"github.com/icache-go/icache-agent/internal/demo"
)

func (a *app) demoCommand() *cobra.Command {
	var once bool
	var listen string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try it: a film site on servers it finds or starts by itself",
		Long: `Finds or starts a Postgres and a Redis, creates a small film database, applies the
migrations, runs the agent and serves a page whose fragments are cached. Ctrl-C ends it and
leaves nothing behind.

Postgres: DATABASE_URL if set, else Docker, else local binaries, else a downloaded one.
Redis:    REDIS_URL if set, else Docker, else a local redis-server, else one in process.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), demo.Options{
				Once: once, Listen: listen, Stdout: a.stdout, Stderr: a.stderr, Getenv: a.getenv,
			})
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "tell the story as a transcript, without a browser, and exit")
	cmd.Flags().StringVar(&listen, "listen", "", "address of the page (default 127.0.0.1:8080, or the next free port)")
	return cmd
}
