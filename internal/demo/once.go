package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const freshLimit = 10 * time.Second

// story is the demo without a browser: what a visitor would see, over HTTP.
type story struct {
	out    io.Writer
	url    string
	stage  *stage
	client *http.Client
	limit  time.Duration // how long to wait for the changed row to show
}

// answer is what came back for a panel.
type answer struct {
	body    string // of the fragment, without what the page says about it
	hit     bool
	version string
	tokens  string
	took    time.Duration // of the whole request
}

// tell runs the story. Every sentence that it prints has been checked.
func tell(ctx context.Context, s story) error {
	const (
		film  = "film?film=12"
		other = "film?film=1"
		was   = "Seven"
		now   = "Se7en"
		sql   = "UPDATE icache_demo.films SET title = 'Se7en' WHERE id = 12"
	)
	s.client = &http.Client{Transport: &http.Transport{}}
	defer s.client.CloseIdleConnections()
	printf(s.out, "\n")
	first, err := s.get(ctx, film)
	if err != nil {
		return err
	}
	if err := first.expect("the first request", false, was); err != nil {
		return err
	}
	s.say(1, "First request for a film", first, was)

	again, err := s.get(ctx, film)
	if err != nil {
		return err
	}
	if err := again.expect("the second request", true, was); err != nil {
		return err
	}
	if again.version != first.version || again.body != first.body {
		return fmt.Errorf("the second request: version %s, want %s and the same body", again.version, first.version)
	}
	s.say(2, "The same again", again, was)
	if _, err := s.get(ctx, other); err != nil { // cached from here on
		return err
	}

	applied := s.stage.changes.applied()
	committed, err := s.update(ctx, sql)
	if err != nil {
		return err
	}
	printf(s.out, "  3. %s\n     on a connection of its own; nobody tells the cache\n", sql)

	var fresh answer
	for {
		if fresh, err = s.get(ctx, film); err != nil {
			return err
		}
		if !fresh.hit || !strings.Contains(fresh.body, was) {
			break
		}
		if time.Since(committed) > s.limit {
			return fmt.Errorf("after %s: the page still says %q, from the cache", s.limit, was)
		}
		time.Sleep(time.Millisecond)
	}
	waited := time.Since(committed)
	if err := fresh.expect("the request after the change", false, now); err != nil {
		return err
	}
	if fresh.version == first.version {
		return fmt.Errorf("the request after the change: version %s has not changed", fresh.version)
	}
	select {
	case <-applied:
	case <-time.After(s.limit):
		return fmt.Errorf("after %s: the agent does not report the change", s.limit)
	}
	change := s.stage.changes.recent()[0]
	if change.Table != "icache_demo.films" || !strings.Contains(strings.Join(change.Tokens, " "), "film:12") {
		return fmt.Errorf("the agent reports %s %v, want icache_demo.films with the token film:12", change.Table, change.Tokens)
	}
	printf(s.out, "     the agent: %s %s (%s) → %s, %s after the commit\n",
		change.Op, change.Table, change.Keys, strings.Join(change.Tokens, " "), milliseconds(max(0, change.Time.Sub(committed))))
	s.say(4, "The next request", fresh, now)
	printf(s.out, "     %s after the commit, rendering included\n", milliseconds(waited))

	if again, err = s.get(ctx, film); err != nil {
		return err
	}
	if err := again.expect("the request after that", true, now); err != nil {
		return err
	}
	s.say(5, "And again", again, now)

	kept, err := s.get(ctx, other)
	if err != nil {
		return err
	}
	if err := kept.expect("another film", true, "Shawshank"); err != nil {
		return err
	}
	s.say(6, "Another film, all the while", kept, "The Shawshank Redemption")
	printf(s.out, "\n  Nothing expired, nothing was purged by hand. Without --once there is a page to watch.\n\n")
	return nil
}

// update runs the change as anybody could, and returns when it was committed.
func (s story) update(ctx context.Context, sql string) (time.Time, error) {
	conn, err := pgx.Connect(ctx, s.stage.postgres.URL)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tag, err := conn.Exec(ctx, sql)
	committed := time.Now()
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%s: %d rows, want 1", sql, tag.RowsAffected())
	}
	return committed, err
}

// get requests a panel.
func (s story) get(ctx context.Context, panel string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/panel/"+panel, nil)
	if err != nil {
		return answer{}, err
	}
	begun := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{
		body: fragmentOf(string(body)), took: time.Since(begun), hit: resp.Header.Get(headerStatus) == statusHit,
		version: resp.Header.Get(headerVersion), tokens: resp.Header.Get(headerTokens),
	}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("GET /panel/%s: %s: %s", panel, resp.Status, strings.TrimSpace(string(body)))
	}
	if v, err := strconv.ParseUint(a.version, 10, 64); err != nil || v == 0 {
		return a, fmt.Errorf("GET /panel/%s: no version: was Redis out of reach?", panel)
	}
	return a, nil
}

// fragmentOf cuts the fragment out of its panel.
func fragmentOf(panel string) string {
	_, panel, _ = strings.Cut(panel, `<div class="body">`)
	panel, _, _ = strings.Cut(panel, "<form")
	return panel
}

func (a answer) expect(what string, hit bool, text string) error {
	if a.hit != hit {
		return fmt.Errorf("%s: %s, want %s", what, howMade(a.hit), howMade(hit))
	}
	if !strings.Contains(a.body, text) {
		return fmt.Errorf("%s: the page does not say %q", what, text)
	}
	return nil
}

func howMade(hit bool) string {
	if hit {
		return "from the cache"
	}
	return "rendered"
}

func (s story) say(n int, what string, a answer, text string) {
	printf(s.out, "  %d. %-28s %-15s %8s   “%s”, version …%s\n", n, what, howMade(a.hit), milliseconds(a.took), text, a.version[max(0, len(a.version)-7):])
}
