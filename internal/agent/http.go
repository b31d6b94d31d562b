package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// handler serves the surfaces of the agent: / for people, /metrics, /livez,
// /readyz, /status and /events for machines.
func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.servePage)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := a.Status()
		if !s.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, s.NotReady)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(a.Status()) // the client went away
	})
	mux.HandleFunc("GET /events", a.serveEvents)
	return mux
}

// StartedHeader is the header of /events that says when the agent started.
const StartedHeader = "Icache-Started"

// serveEvents streams applied changes as server-sent events, first the recent
// ones, then each as it is applied.
func (a *Agent) serveEvents(w http.ResponseWriter, r *http.Request) {
	sub, recent := a.Subscribe()
	defer sub.Close()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("X-Accel-Buffering", "no")
	// Numbers of events begin again with the process: a client that comes back
	// must be able to tell.
	w.Header().Set(StartedHeader, a.started.Format(time.RFC3339Nano))
	send := func(e Event) error {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Kind, data)
		return err
	}
	if r.URL.Query().Get("recent") != "0" {
		for _, e := range recent {
			if send(e) != nil {
				return
			}
		}
	}
	alive := time.NewTicker(15 * time.Second)
	defer alive.Stop()
	if rc.Flush() != nil {
		return
	}
	var missed uint64
	for {
		select {
		case <-r.Context().Done():
			return
		case <-a.stopping:
			return
		case <-alive.C:
			if _, err := fmt.Fprint(w, ": alive\n\n"); err != nil {
				return
			}
		case e, ok := <-sub.Events():
			if !ok || send(e) != nil {
				return
			}
			if m := sub.Missed(); m != missed {
				if _, err := fmt.Fprintf(w, "event: missed\ndata: %d\n\n", m-missed); err != nil {
					return
				}
				missed = m
			}
		}
		if rc.Flush() != nil {
			return
		}
	}
}

// serve answers on ln until ctx ends.
func (a *Agent) serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve http on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		_ = srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
