package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

const (
	dockerInfoLimit = 5 * time.Second
	dockerPullLimit = 2 * time.Minute
	dockerRunLimit  = 30 * time.Second

	// dockerLabel marks the demo's containers: docker ps --filter label=icache-demo
	dockerLabel = "icache-demo"
)

func (f *Finder) dockerPostgres(ctx context.Context) (*Server, error) {
	password := rand.Text()
	c, err := f.dockerRun(ctx, container{
		name: "postgres", image: or(f.Getenv(EnvPostgresImage), "postgres:17-alpine"), port: "5432",
		env: []string{"POSTGRES_PASSWORD=" + password},
	})
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: c.addr, Path: "/postgres", RawQuery: "sslmode=disable"}
	s := &Server{
		Name: "Postgres", Where: c.where(), URL: u.String(),
		client: func(statement string) string {
			return "docker exec " + c.name + " psql -U postgres -c " + doubleQuote(statement)
		},
		close: c.remove,
	}
	return f.dockerReady(ctx, s, c, pingPostgres)
}

func (f *Finder) dockerRedis(ctx context.Context) (*Server, error) {
	c, err := f.dockerRun(ctx, container{
		name: "redis", image: or(f.Getenv(EnvRedisImage), "redis:7-alpine"), port: "6379",
	})
	if err != nil {
		return nil, err
	}
	s := &Server{
		Name: "Redis", Where: c.where(), URL: "redis://" + c.addr + "/0",
		client: func(statement string) string { return "docker exec " + c.name + " redis-cli " + statement },
		close:  c.remove,
	}
	return f.dockerReady(ctx, s, c, pingRedis)
}

// container is one container of the demo's.
type container struct {
	finder *Finder
	name   string
	image  string
	port   string   // inside
	env    []string // "NAME=value"; the values reach docker by its environment, not by its arguments
	addr   string   // outside
}

// dockerRun starts a container and finds out where its port is published.
func (f *Finder) dockerRun(ctx context.Context, c container) (*container, error) {
	if f.lookPath("docker") == "" {
		return nil, fmt.Errorf("%w: no docker command", errNotHere)
	}
	if out, err := f.run(ctx, dockerInfoLimit, nil, "docker", "info", "--format", "{{.ServerVersion}}"); err != nil {
		return nil, fmt.Errorf("%w: the Docker engine does not answer: %w", errNotHere, err)
	} else if out == "" {
		return nil, fmt.Errorf("%w: the Docker engine does not answer", errNotHere) // some versions exit with 0
	}
	if _, err := f.run(ctx, dockerInfoLimit, nil, "docker", "image", "inspect", "--format", "{{.Id}}", c.image); err != nil {
		f.Say(fmt.Sprintf("Docker: pulling %s", c.image))
		if _, err := f.run(ctx, dockerPullLimit, nil, "docker", "pull", "--quiet", c.image); err != nil {
			return nil, err
		}
	}
	c.finder = f
	c.name = "icache-demo-" + c.name + "-" + strings.ToLower(rand.Text()[:6])
	args := []string{"run", "--detach", "--rm", "--name", c.name, "--label", dockerLabel, "--publish", "127.0.0.1::" + c.port}
	for _, e := range c.env {
		name, _, _ := strings.Cut(e, "=")
		args = append(args, "--env", name)
	}
	if _, err := f.run(ctx, dockerRunLimit, c.env, "docker", append(args, c.image)...); err != nil {
		return nil, c.discard(err) // it may exist nevertheless
	}
	out, err := f.run(ctx, dockerInfoLimit, nil, "docker", "port", c.name, c.port+"/tcp")
	if err != nil {
		return nil, c.discard(err)
	}
	c.addr = firstLine(out)
	if _, _, err := net.SplitHostPort(c.addr); err != nil {
		return nil, c.discard(fmt.Errorf("docker port: unexpected answer %q", c.addr))
	}
	return &c, nil
}

// dockerReady waits until the server inside the container answers.
func (f *Finder) dockerReady(ctx context.Context, s *Server, c *container, ping func(context.Context, string) error) (*Server, error) {
	err := poll(ctx, startLimit,
		func(ctx context.Context) error { return ping(ctx, s.URL) },
		func(ctx context.Context) error {
			running, err := f.run(ctx, dockerInfoLimit, nil, "docker", "inspect", "--format", "{{.State.Running}}", c.name)
			if err != nil || running != "true" {
				return fmt.Errorf("container of %s ended by itself", c.image)
			}
			return nil
		})
	if err != nil {
		return nil, c.discard(fmt.Errorf("container of %s on %s: %w", c.image, c.addr, err))
	}
	return s, nil
}

func (c *container) where() string { return "Docker container " + c.name + " on " + c.addr }

// remove ends the container and deletes it with its volumes.
func (c *container) remove() error {
	ctx := context.Background() // also, and above all, when the demo's context has ended
	_, err := c.finder.run(ctx, dockerRunLimit, nil, "docker", "rm", "--force", "--volumes", c.name)
	if err != nil {
		if left, psErr := c.finder.run(ctx, dockerInfoLimit, nil, "docker", "ps", "--all", "--quiet", "--filter", "name=^/"+c.name+"$"); psErr == nil && left == "" {
			return nil
		}
		return fmt.Errorf("%w; remove it with: docker rm -f %s", err, c.name)
	}
	return nil
}

func (c *container) discard(err error) error { return errors.Join(err, c.remove()) }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
