package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/internal/servertest"
)

const djangoExample = "../examples/django"

// django is the site of examples/django, whose cache the agent keeps right.
type django struct {
	*testing.T
	env    []string
	config string // of the agent
	url    string
	db     *pgx.Conn
}

// newDjango sets the example up. Nothing of it runs yet.
func newDjango(t *testing.T) *django {
	t.Helper()
	if exec.Command("/usr/bin/python3", "-c", "import django, django_redis, psycopg2").Run() != nil &&
		exec.Command("python3", "-c", "import django, django_redis, psycopg2").Run() != nil {
		t.Skip("needs Django: apt-get install python3-django python3-django-redis python3-psycopg2")
	}
	path, err := binary()
	require.NoError(t, err)
	postgresURL, redisURL, prefix := servertest.Postgres(t), servertest.OwnRedis(t).URL(), servertest.Prefix(t)
	role := strings.Trim(prefix, "_") + "_writer"
	s := &django{T: t, config: filepath.Join(t.TempDir(), "icache.yaml")}
	s.env = append(cleanEnv(), "DATABASE_URL="+postgresURL, "REDIS_URL="+redisURL, "AGENT="+path, "ICACHE_POSTGRES__WRITER_ROLE="+role)
	s.run("setup")

	example, err := os.ReadFile(filepath.Join(djangoExample, "icache.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(example), "\nredis:\n")
	require.NoError(t, os.WriteFile(s.config, []byte(strings.Replace(string(example), "\nredis:\n", fmt.Sprintf(`
postgres: {url: %q, writer_role: %s}
http: {listen: "127.0.0.1:0"}
log: {level: debug, format: json}
redis:
  url: %q
`, postgresURL, role, redisURL), 1)), 0o600))

	s.db, err = pgx.Connect(t.Context(), postgresURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.db.Close(context.Background()) })
	return s
}

func (s *django) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.Context(), filepath.Join(djangoExample, "run"), args...)
	cmd.Env = s.env
	return cmd
}

// run runs one of the example's commands to its end.
func (s *django) run(args ...string) {
	s.Helper()
	out, err := s.command(args...).CombinedOutput()
	require.NoError(s, err, "run %s\n%s", args, out)
}

// start starts one of the example's commands that run until they are told to
// end, and waits until the site answers.
func (s *django) start(args ...string) (log *lockedBuffer, stop func() error) {
	s.Helper()
	log = &lockedBuffer{}
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(s, cmd.Start())
	ended := make(chan struct{})
	var err error
	go func() {
		err = cmd.Wait()
		close(ended)
	}()
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		<-ended
		return err
	}
	s.Cleanup(func() {
		_ = stop()
		if s.Failed() {
			s.Logf("log of run %s:\n%s", args, log)
		}
	})
	opened := regexp.MustCompile(`Open  (http://\S+)/`)
	require.Eventually(s, func() bool {
		m := opened.FindStringSubmatch(log.String())
		if m == nil {
			return false
		}
		s.url = m[1]
		_, err := fetch(s.url + "/")
		return err == nil
	}, readyTimeout, 20*time.Millisecond, "the site does not answer")
	return log, stop
}

// settled waits until an agent outdates no more for its first start: it does so
// again when the transactions of that moment have ended, those of other tests too.
func (s *django) settled(ag *agent) {
	s.Helper()
	require.Eventually(s, func() bool {
		var status struct {
			Ready    bool
			Postgres struct {
				Leader       bool
				ResetPending bool `json:"reset_pending"`
			}
		}
		if ag.http == "" {
			ag.http = ag.announced()
		}
		return ag.http != "" && get(s.Context(), ag.http+"/status", &status) == nil &&
			status.Ready && status.Postgres.Leader && !status.Postgres.ResetPending
	}, time.Minute, 20*time.Millisecond, "the agent is not ready")
}

func fetch(url string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Close = true // no idle connection for goleak to find
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s\n%s", url, resp.Status, body)
	}
	return string(body), err
}

// The fragments that the test looks at: a page, and the id of a part of it.
var djangoFragments = map[string][2]string{
	"best":    {"/", "best"},
	"ada":     {"/?user=1", "mine"},
	"bruno":   {"/?user=2", "mine"},
	"viewers": {"/", "viewers"},
	"heat":    {"/movie/5/", "movie"},
	"alien":   {"/movie/3/", "movie"},
}

var section = regexp.MustCompile(`(?s)<section id="(\w+)" data-rendered="(\d+)">(.*?)</section>`)

// look returns the number of the rendering that each fragment is from, and its text.
func (s *django) look() (numbers, texts map[string]string) {
	s.Helper()
	numbers, texts = map[string]string{}, map[string]string{}
	for name, where := range djangoFragments {
		page, err := fetch(s.url + where[0])
		require.NoError(s, err)
		for _, m := range section.FindAllStringSubmatch(page, -1) {
			if m[1] == where[1] {
				numbers[name], texts[name] = m[2], m[3]
			}
		}
		require.Contains(s, numbers, name)
	}
	return numbers, texts
}

// changes runs SQL, as anybody could, and requires that the named fragments are
// rendered anew and no other. It returns their texts.
func (s *django) changes(sql string, names ...string) map[string]string {
	s.Helper()
	before, _ := s.look()
	_, err := s.db.Exec(s.Context(), sql)
	require.NoError(s, err, sql)
	return s.fresh(before, sql, names...)
}

// fresh waits until the named fragments are from another rendering than before.
func (s *django) fresh(before map[string]string, why string, names ...string) map[string]string {
	s.Helper()
	var numbers, texts map[string]string
	require.Eventually(s, func() bool {
		numbers, texts = s.look()
		for _, name := range names {
			if numbers[name] == before[name] {
				return false
			}
		}
		return true
	}, readyTimeout, 5*time.Millisecond, "%s: not all of %s are fresh", why, names)
	for _, name := range names {
		delete(before, name)
	}
	for name := range before {
		require.Equal(s, before[name], numbers[name], "%s: %s was rendered again", why, name)
	}
	again, _ := s.look()
	require.Equal(s, numbers, again, "%s: cached again", why)
	return texts
}

// A Django site with a template tag of its own, which knows neither groups nor
// the generation and increments nothing: the database does it.
func TestDjango(t *testing.T) {
	t.Parallel()
	s := newDjango(t)
	s.start("serve")
	ag := startAgent(t, s.config)
	s.settled(ag)

	numbers, texts := s.look()
	again, _ := s.look()
	require.Equal(t, numbers, again, "cached")
	require.Contains(t, texts["heat"], "<li>Bruno: 2</li>")

	texts = s.changes("UPDATE movies_rating SET stars = 5 WHERE movie_id = 5 AND viewer_id = 2", "heat", "best", "bruno")
	require.Contains(t, texts["heat"], "<li>Bruno: 5</li>")
	require.Contains(t, texts["bruno"], "<li>Heat: 5</li>")

	texts = s.changes("UPDATE movies_movie SET title = 'Heat (restored)' WHERE id = 5", "heat", "best", "ada", "bruno")
	require.Contains(t, texts["heat"], "Heat (restored)")

	// One row in the outbox that says no more than that the table changed.
	s.changes("INSERT INTO movies_movie SELECT i, 'No. ' || i, 1900 FROM generate_series(100, 1600) i", "heat", "alien", "best", "ada", "bruno")
	texts = s.changes("UPDATE movies_movie SET year = year + 1", "heat", "alien", "best", "ada", "bruno")
	require.Contains(t, texts["alien"], "Alien, 1980")

	texts = s.changes("TRUNCATE movies_rating", "heat", "alien", "best", "ada", "bruno")
	require.NotContains(t, texts["heat"], "<li>")

	// What changes while the agent is away is found when it is back, and nothing else.
	ag.terminate(t)
	before, _ := s.look()
	_, err := s.db.Exec(t.Context(), "UPDATE movies_movie SET title = 'Aliens' WHERE id = 3")
	require.NoError(t, err)
	_, texts = s.look()
	require.Contains(t, texts["alien"], "Alien,", "served as it was, as long as there is no agent")
	ag = startAgent(t, s.config)
	texts = s.fresh(before, "the agent is back", "alien", "best", "ada", "bruno")
	require.Contains(t, texts["alien"], "Aliens")

	// A gap, in which anything may have happened, outdates everything.
	ag.terminate(t)
	before, _ = s.look()
	_, err = s.db.Exec(t.Context(), "TRUNCATE icache.cursor")
	require.NoError(t, err)
	s.settled(startAgent(t, s.config))
	s.fresh(before, "a gap", "heat", "alien", "best", "ada", "bruno", "viewers")
}

// The tests of the tag, and the one command that runs it all.
func TestDjangoByItself(t *testing.T) {
	t.Parallel()
	s := newDjango(t)
	s.run("test")

	s.env = append(s.env, "ICACHE_HTTP__LISTEN=127.0.0.1:0", "ICACHE_LOG__LEVEL=info", "ICACHE_LOG__FORMAT=json")
	log, stop := s.start()
	s.settled(&agent{log: log})
	texts := s.changes("UPDATE movies_viewer SET name = 'Dalia' WHERE id = 3", "viewers", "heat", "alien")
	require.Contains(t, texts["viewers"], "Dalia")
	require.NotContains(t, log.String(), s.db.Config().ConnString(), "the URL of a user's database may hold a password")
	require.NoError(t, stop())
}
