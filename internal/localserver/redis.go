package localserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RedisConfig says how to start a Redis server. The zero value starts one that
// keeps nothing on disk.
type RedisConfig struct {
	// Path of redis-server. Defaults to what [FindRedis] finds.
	Path string
	// Port to listen on. Defaults to a free one.
	Port int
	// Password, if any, that clients need.
	Password string
	// Settings are further lines of redis.conf, "appendonly yes".
	Settings []string
	// ReplicaOf makes the server a replica of another one.
	ReplicaOf *Redis
	// Sentinel starts a Sentinel instead; Settings say what it monitors.
	Sentinel bool
}

// Redis is a Redis server of this process. Its methods are safe for concurrent use.
type Redis struct {
	*process
	home     *home
	port     int
	password string
}

// StartRedis starts a server. The context bounds the start, not the life of
// the server. Callers must call [Redis.Close].
func StartRedis(ctx context.Context, cfg RedisConfig) (_ *Redis, err error) {
	path := cfg.Path
	if path == "" {
		if path, err = FindRedis(); err != nil {
			return nil, err
		}
	}
	// As root, CONFIG SET would let anyone who reaches the port write any file.
	as, err := unprivileged("redis", "valkey", "postgres", "nobody")
	if err != nil {
		return nil, err
	}
	home, err := newHome()
	if err != nil {
		return nil, err
	}
	r := &Redis{home: home, password: cfg.Password}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	dir, err := home.dir("data", as)
	if err != nil {
		return nil, err
	}
	conf := home.join("redis.conf")
	r.process = &process{
		name:    "redis-server",
		path:    path,
		args:    []string{conf},
		as:      as,
		logPath: home.join("redis.log"),
		ready:   r.ping,
	}
	if cfg.Sentinel {
		r.args = append(r.args, "--sentinel")
	}
	return r, retryPort(cfg.Port, func(port int) error {
		r.port = port
		// Written once: a Sentinel, or CONFIG REWRITE, keeps its state in this file.
		if err := os.WriteFile(conf, []byte(r.config(dir, cfg)), 0o600); err != nil {
			return fmt.Errorf("localserver: %w", err)
		}
		if err := as.own(conf); err != nil {
			return err
		}
		return r.Start(ctx)
	})
}

func (r *Redis) config(dir string, cfg RedisConfig) string {
	lines := []string{
		"port " + strconv.Itoa(r.port),
		"bind 127.0.0.1",
		"daemonize no",
		"dir " + strconv.Quote(dir),
		`logfile ""`,
	}
	if !cfg.Sentinel {
		lines = append(lines, `save ""`, "appendonly no")
	}
	if cfg.Password != "" {
		lines = append(lines, "requirepass "+strconv.Quote(cfg.Password), "masterauth "+strconv.Quote(cfg.Password))
	}
	if cfg.ReplicaOf != nil {
		lines = append(lines, "replicaof 127.0.0.1 "+strconv.Itoa(cfg.ReplicaOf.port), "repl-diskless-sync-delay 0")
	}
	return strings.Join(append(lines, cfg.Settings...), "\n") + "\n"
}

// ping is nil once the server has loaded its data and answers.
func (r *Redis) ping(ctx context.Context) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", r.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	replies := bufio.NewReader(conn)
	commands := []string{"PING"}
	if r.password != "" {
		commands = []string{"AUTH " + strconv.Quote(r.password), "PING"}
	}
	var reply string
	for _, command := range commands {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			return err
		}
		if reply, err = replies.ReadString('\n'); err != nil {
			return err
		}
	}
	if reply != "+PONG\r\n" {
		return errors.New(strings.TrimSpace(reply))
	}
	return nil
}

// Start starts the server again, on the same port and with the same
// configuration, and returns once it answers.
func (r *Redis) Start(ctx context.Context) error { return r.start(ctx, r.home.path) }

// Stop shuts the server down in good order.
func (r *Redis) Stop() error { return r.stop(syscall.SIGTERM) }

// Close kills the server and removes its data. It may be called again.
func (r *Redis) Close() error {
	var err error
	if r.process != nil {
		err = r.Kill()
	}
	return errors.Join(err, r.home.remove())
}

// URL is the connection URL for database 0.
func (r *Redis) URL() string {
	u := url.URL{Scheme: "redis", Host: r.Addr(), Path: "/0"}
	if r.password != "" {
		u.User = url.UserPassword("", r.password)
	}
	return u.String()
}

// Addr is the address that the server listens on, "127.0.0.1:port".
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }
