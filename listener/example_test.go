package listener_test

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"

	"github.com/icache-go/icache-agent/listener"
)

// printer is the simplest handler: what it is given has taken effect at once.
type printer struct{}

func (printer) Apply(_ context.Context, c listener.Change) error {
	fmt.Printf("%c %s %s\n", c.Op, c.Table, c.Keys)
	return nil
}

func (printer) Flush(context.Context) error { return nil }

func (printer) Reset(_ context.Context, reason string) error {
	fmt.Println("everything may have changed:", reason)
	return nil
}

func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := listener.New(listener.Config{URL: "postgres://icache@localhost/app", Handler: printer{}})
	if err != nil {
		log.Fatal(err)
	}
	if err := l.Run(ctx); err != nil { // nil after a signal
		log.Fatal(err)
	}
}

func ExampleNew() {
	_, err := listener.New(listener.Config{URL: "postgres://icache@localhost/app", Handler: printer{}, Wake: "sometimes"})
	fmt.Println(err)
	// Output: listener: Config.Wake is "sometimes", want auto, doorbell or poll
}
