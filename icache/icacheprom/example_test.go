package icacheprom_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icacheprom"
)

func Example() {
	server, err := miniredis.Run() // stands for a Redis at localhost:6379
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	metrics := icacheprom.New()
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics)
	cache, err := icache.New(rdb, icache.WithHooks(metrics.Hooks()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cache.Close()

	for range 3 {
		_, _ = icache.Fetch(context.Background(), cache, "title", []string{"movie:42"},
			func(context.Context) (string, error) { return "Stalker", nil })
	}
	fmt.Println(testutil.GatherAndCount(registry, "icache_fetches_total"))
	// Output: 5 <nil>
}
