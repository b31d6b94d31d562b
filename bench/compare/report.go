package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	beginMark = "<!-- library -->"
	endMark   = "<!-- /library -->"
)

// report writes the section: what was measured, where, and the tables.
func report(w io.Writer, p plan, about string, tables []table) {
	fmt.Fprintf(w, "%s\n\n", about)
	fmt.Fprintf(w, "Medians of %d runs of %v for each, every one of them right before or after a run of the bare MGET. ", p.rounds, p.length)
	fmt.Fprintln(w, "A ratio is throughput against that run: above 1 is faster.")
	fmt.Fprintf(w, "%d pages, each of which depends on 4 tokens, their 3 groups and the generation; the bare MGET reads these 8 keys and the page.\n", pages)
	for _, t := range tables {
		fmt.Fprintf(w, "\n### %d KiB\n\n", t.size>>10)
		fmt.Fprint(w, "| a hit by |")
		for _, g := range p.goroutines {
			fmt.Fprintf(w, " %s | × MGET |", plural(g, "goroutine"))
		}
		fmt.Fprintln(w, " may be behind by |")
		fmt.Fprint(w, "| --- |", strings.Repeat(" ---: | ---: |", len(p.goroutines)), " --- |\n")
		for _, r := range t.rows {
			fmt.Fprintf(w, "| %s |", r.name)
			for _, c := range r.columns {
				fmt.Fprintf(w, " %s | %s |", duration(c.took), ratio(c.ratio))
			}
			fmt.Fprintf(w, " %s |\n", r.behind)
		}
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func duration(d time.Duration) string {
	if d < time.Microsecond {
		return fmt.Sprintf("%d ns", d)
	}
	return fmt.Sprintf("%.1f µs", float64(d)/1e3)
}

func ratio(r float64) string {
	if r >= 100 {
		return fmt.Sprintf("%.0f", r)
	}
	return fmt.Sprintf("%.2f", r)
}

// describe says on what the figures were measured, and how busy it was.
func describe(ctx context.Context, addr, loadBefore string) (string, error) {
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %d CPUs, %s/%s, %s, %s on the same machine", time.Now().UTC().Format(time.DateOnly),
		processor(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), serverVersion(info))
	if loadBefore != "" {
		fmt.Fprintf(&b, "; load average over one minute %s before and %s after, of which the benchmark itself is a part", loadBefore, loadAverage())
	}
	b.WriteString(".")
	var modules []string
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, m := range build.Deps {
			switch m.Path {
			case "github.com/go-redis/cache/v9", "github.com/redis/rueidis", "github.com/maypok86/otter/v2", "github.com/redis/go-redis/v9":
				modules = append(modules, strings.TrimPrefix(m.Path, "github.com/")+" "+m.Version)
			}
		}
	}
	if len(modules) > 0 { // a test binary does not know them
		b.WriteString("\nBeside " + strings.Join(modules, ", ") + ".")
	}
	return b.String(), nil
}

func serverVersion(info string) string {
	version := "Redis"
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "redis_version":
			version = "Redis " + value
		case "valkey_version":
			return "Valkey " + value
		}
	}
	return version
}

// processor is the processor's name, where the system tells it.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// loadAverage is that of the last minute, or "" where the system does not tell.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	load, _, _ := strings.Cut(string(b), " ")
	return load
}

// insert puts text between the marks in a file.
func insert(file string, text []byte) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(old, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %s … %s", file, beginMark, endMark)
	}
	out := bytes.Join([][]byte{before, []byte(beginMark + "\n"), text, []byte(endMark), after}, nil)
	return os.WriteFile(file, out, 0o644)
}
