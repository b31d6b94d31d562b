package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/agent"
	"github.com/icache-go/icache-agent/mapping"
)

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// withGenres adds a rule for genres, and a token to the one for movies.
func withGenres() []mapping.Rule {
	r := rules()
	r[0].Tokens = append(r[0].Tokens, "title:{title}")
	return append(r, mapping.Rule{Table: mapping.TableName{Schema: "public", Name: "genres"}, Tokens: []string{"genres", "genre:{id}"}})
}

// source is a config that a test changes.
type source struct {
	mu     sync.Mutex
	loaded *agent.Loaded
	err    error
}

func (s *source) set(l *agent.Loaded, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.err = l, err
}

func (s *source) load(context.Context) (*agent.Loaded, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loaded, s.err
}

// name is what a page shows of a genre, cached for as long as genre:1 allows.
func (b *bundle) name(t *testing.T) string {
	t.Helper()
	got, err := icache.Fetch(t.Context(), b.cache, "genre-name", []string{"genre:1"}, func(ctx context.Context) (string, error) {
		var s string
		err := b.db.QueryRow(ctx, "SELECT name FROM genres WHERE id = 1").Scan(&s)
		return s, err
	})
	require.NoError(t, err)
	return got
}

// applied waits until the agent has dealt with n changes of a table.
func (b *bundle) applied(t *testing.T, table string, n uint64) {
	t.Helper()
	require.Eventually(t, func() bool { return b.agent.Status().Postgres.Tables[table].Changes >= n }, 20*time.Second, 5*time.Millisecond)
}

// A table is added by a migration while the agent knows nothing of it, changes
// of it are drained, and then the rule comes.
func TestWhatANewRuleMissedIsOutdated(t *testing.T) {
	t.Parallel()
	missed := func(t *testing.T, b *bundle) {
		b.migrate(t, withGenres())
		require.Equal(t, "crime", b.name(t))
		b.exec(t, "UPDATE genres SET name = 'noir' WHERE id = 1")
		b.applied(t, "public.genres", 1)
		require.Equal(t, "crime", b.name(t), "no rule, no token")
	}
	t.Run("reload", func(t *testing.T) {
		t.Parallel()
		var src source
		b := setup(t, options{load: src.load})
		missed(t, b)
		src.set(&agent.Loaded{Rules: withGenres()}, nil)
		b.agent.Reload(t.Context(), "test")
		require.Eventually(t, func() bool { return b.name(t) == "noir" }, 10*time.Second, 5*time.Millisecond)
		b.exec(t, "UPDATE genres SET name = 'film noir' WHERE id = 1")
		require.Eventually(t, func() bool { return b.name(t) == "film noir" }, 10*time.Second, 5*time.Millisecond)
		b.rises(t, "UPDATE movies SET title = 'Ronin' WHERE id = 1", []string{"movie:1", "title:Heat", "title:Ronin"}, "title:*")
	})
	t.Run("restart", func(t *testing.T) {
		t.Parallel()
		b := setup(t, options{})
		missed(t, b)
		require.NoError(t, b.stop())
		b.start(t, withGenres())
		require.Equal(t, "noir", b.name(t), "before the agent is ready")
		require.NoError(t, b.stop())

		// With the same rules nothing is outdated, whatever is restarted.
		before := b.values(t, "genres", "genre:*", "genre:1", "movie:*", "movies", "*")
		b.start(t, withGenres())
		require.Equal(t, before, b.values(t, "genres", "genre:*", "genre:1", "movie:*", "movies", "*"))
		require.NoError(t, b.stop())

		// Back to the rules of before: only the rule that is not the same.
		b.start(t, rules())
		after := b.values(t, "genres", "genre:*", "genre:1", "movie:*", "movies", "*")
		require.Greater(t, after["movies"], before["movies"])
		require.Greater(t, after["movie:*"], before["movie:*"])
		require.Equal(t, before["genres"], after["genres"])
		require.Equal(t, before["*"], after["*"])
	})
	t.Run("a role that may not keep the marks", func(t *testing.T) {
		t.Parallel()
		var log logBuffer
		b := setup(t, options{logger: log.logger()})
		b.exec(t, "DROP TABLE icache.rules")
		require.NoError(t, b.stop())
		before := b.values(t, "movies", "movie:*")
		b.start(t, rules())
		after := b.values(t, "movies", "movie:*")
		require.Greater(t, after["movie:*"], before["movie:*"], "nothing is known of the leader before")
		require.Contains(t, log.String(), "cannot keep by what rules changes are applied")
		b.rises(t, "UPDATE movies SET title = 'Thief' WHERE id = 1", []string{"movie:1"})
	})
}

// What happened while a table had no triggers is outdated when it gets them.
func TestAMigrationOutdatesWhatTheTriggersMissed(t *testing.T) {
	t.Parallel()
	var log logBuffer
	b := setup(t, options{rules: withGenres(), logger: log.logger()})
	due := func(table string) string {
		for _, s := range b.agent.Status().Tables {
			if s.Table == table {
				return s.MigrationDue
			}
		}
		t.Fatal("no rule for", table)
		return ""
	}
	require.Equal(t, "the table has no triggers", due("public.genres"))
	require.Equal(t, "the triggers do not record title; until then group tokens are bumped", due("public.movies"))
	require.Empty(t, due("public.ratings"))
	require.Contains(t, log.String(), "a migration is due")
	require.Equal(t, 1, strings.Count(log.String(), "table=public.genres"))
	b.rises(t, "UPDATE movies SET title = 'Ali' WHERE id = 1", []string{"movie:1", "title:*"}, "title:Ali")

	require.Equal(t, "crime", b.name(t))
	b.exec(t, "UPDATE genres SET name = 'noir' WHERE id = 1")
	require.Equal(t, "crime", b.name(t), "nobody records it")
	b.migrate(t, withGenres())
	require.Eventually(t, func() bool { return b.name(t) == "noir" }, 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return due("public.genres")+due("public.movies") == "" }, 20*time.Second, 10*time.Millisecond)
	b.rises(t, "UPDATE movies SET title = 'Tokyo' WHERE id = 1", []string{"movie:1", "title:Ali", "title:Tokyo"}, "title:*")
}

func TestABadConfigChangesNothing(t *testing.T) {
	t.Parallel()
	var src source
	var log logBuffer
	b := setup(t, options{load: src.load, logger: log.logger()})
	metric := func(name string) string {
		t.Helper()
		resp, err := http.Get(b.http + "/metrics")
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		for line := range strings.Lines(string(body)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
				return value
			}
		}
		t.Fatal("no metric", name)
		return ""
	}
	require.Equal(t, "1", metric("icache_config_last_reload_successful"))
	at := metric("icache_config_last_reload_success_timestamp_seconds")

	src.set(nil, errors.New("icache.yaml:3:5: unknown key \"tabels\"\nicache.yaml:9:1: another"))
	b.agent.Reload(t.Context(), "test")
	require.Equal(t, "0", metric("icache_config_last_reload_successful"))
	require.Equal(t, at, metric("icache_config_last_reload_success_timestamp_seconds"))
	require.Equal(t, `icache.yaml:3:5: unknown key "tabels"; icache.yaml:9:1: another`, b.agent.Status().Config.Error)
	require.Equal(t, 1, strings.Count(log.String(), "the config was not reloaded"))
	b.rises(t, "UPDATE movies SET title = 'Thief' WHERE id = 1", []string{"movie:1"})

	bad := rules()
	bad[0].Tokens = []string{"movie:{id"}
	src.set(&agent.Loaded{Rules: bad}, nil)
	b.agent.Reload(t.Context(), "test")
	require.NotEmpty(t, b.agent.Status().Config.Error)
	b.rises(t, "UPDATE movies SET title = 'Manhunter' WHERE id = 1", []string{"movie:1"})

	src.set(&agent.Loaded{Rules: rules()[:1], Restart: []string{"http.listen", "postgres.url"}}, nil)
	b.agent.Reload(t.Context(), "test")
	s := b.agent.Status()
	require.Empty(t, s.Config.Error)
	require.Equal(t, []string{"http.listen", "postgres.url"}, s.Config.RestartNeeded)
	require.Len(t, s.Tables, 1)
	require.Contains(t, log.String(), `settings="http.listen postgres.url"`)
	require.Contains(t, log.String(), "removed=public.ratings")
	require.Equal(t, "1", metric("icache_config_last_reload_successful"))
	require.Greater(t, metric("icache_config_last_reload_success_timestamp_seconds"), at)
	var text strings.Builder
	require.NoError(t, s.WriteText(&text))
	require.Contains(t, text.String(), "restart the agent for http.listen, postgres.url")
}

// No change is lost while rules come and go: each is mapped by the rules of
// before, or by those of after, or covered by the fallback.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	var src source
	b := setup(t, options{load: src.load})
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			more := rules()
			if i%2 == 0 {
				more = withGenres()
			}
			src.set(&agent.Loaded{Rules: more}, nil)
			b.agent.Reload(context.Background(), "test")
			time.Sleep(3 * time.Millisecond)
		}
	})
	defer wg.Wait()
	defer stop.Store(true)
	for range 100 {
		b.rises(t, "UPDATE movies SET title = 'x' || random() WHERE id = 1", []string{"movies", "movie:1", "genre:1"})
	}
}

func TestADiscoveredTableIsReadFromTheConfig(t *testing.T) {
	t.Parallel()
	var src source
	src.set(&agent.Loaded{Rules: withGenres()}, nil)
	b := setup(t, options{load: src.load, discover: true})
	require.Equal(t, "crime", b.name(t))
	require.Len(t, b.agent.Status().Tables, 2)
	b.migrate(t, withGenres())
	b.exec(t, "UPDATE genres SET name = 'noir' WHERE id = 1")
	require.Eventually(t, func() bool { return b.name(t) == "noir" }, 20*time.Second, 10*time.Millisecond)
	// The page may be fresh a moment before the rules are listed.
	require.Eventually(t, func() bool { return len(b.agent.Status().Tables) == 3 }, 20*time.Second, 10*time.Millisecond)
}
