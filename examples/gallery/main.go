// Command gallery is the demo of icache-agent with every template engine that
// there is an adapter for. Each adapter is a module of its own, and so is this
// command: the agent depends on none of them.
//
//	go run ./examples/gallery
//	go run ./examples/gallery -once
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/icache-go/icache-agent/internal/demo"
)

// engines are those beside the standard library's.
var engines = []demo.NewEngine{newPongo2, newGonja, newTempl}

func main() {
	once := flag.Bool("once", false, "tell the story as a transcript, without a browser, and exit")
	listen := flag.String("listen", "", "address of the page (default 127.0.0.1:8080, or the next free port)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := demo.Run(ctx, demo.Options{Once: *once, Listen: *listen, Engines: engines, Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gallery:", err)
		os.Exit(1)
	}
}
