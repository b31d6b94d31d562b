package template_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/internal/servertest"
	"github.com/icache-go/icache-agent/tmpl"
	"github.com/icache-go/icache-agent/tmpl/html/template"
	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
)

type bundle struct {
	cache  *icache.Cache
	ctx    context.Context
	events *tmpltest.Recorder
}

func setup(t *testing.T) bundle {
	t.Helper()
	ctx, events := tmpltest.Record(t.Context())
	return bundle{tmpltest.Cache(t), ctx, events}
}

func (b bundle) parse(t *testing.T, text string) *template.Template {
	t.Helper()
	return template.Must(template.New("page").Parse(text)).Cache(b.cache)
}

func TestInvalidation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `{{icache "rating" "movies" .User}}{{.Body}}{{endicache}}`)
	data := map[string]any{"User": 7, "Body": "one"}

	require.Equal(t, "one", execute(b.ctx, t, page, data))
	data["Body"] = "two"
	require.Equal(t, "one", execute(b.ctx, t, page, data))
	require.Equal(t, []string{"rating: miss", "rating: hit"}, b.events.Outcomes())

	for i, token := range []string{"rating", "movies", "7"} {
		data["Body"] = i
		require.NoError(t, b.cache.Incr(b.ctx, token))
		require.Equal(t, fmt.Sprint(i), execute(b.ctx, t, page, data), token)
		require.Equal(t, []string{"rating: miss"}, b.events.Outcomes(), token)
	}
	require.NoError(t, b.cache.Incr(b.ctx, "other"))
	data["Body"] = "unseen"
	require.Equal(t, "2", execute(b.ctx, t, page, data))
}

func TestEntries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `{{icache "n" .A .B (vary .V)}}{{.A}},{{.B}},{{.V}}{{endicache}}`)
	seen := make(map[string]string)
	for _, data := range []map[string]any{
		{"A": "a", "B": "b", "V": ""},
		{"A": "b", "B": "a", "V": ""},
		{"A": "ab", "B": "c", "V": ""},
		{"A": "a", "B": "bc", "V": ""},
		{"A": "a", "B": "b", "V": "v"},
		{"A": "a", "B": "v", "V": "b"},
		{"A": 1, "B": 2, "V": true},
		{"A": 1, "B": 2, "V": false},
		{"A": 12, "B": 2, "V": false},
		{"A": 1, "B": 22, "V": false},
	} {
		want := fmt.Sprintf("%v,%v,%v", data["A"], data["B"], data["V"])
		require.Equal(t, want, execute(b.ctx, t, page, data))
		events := b.events.Events()
		require.Len(t, events, 1)
		require.Equal(t, icache.Miss, events[0].Outcome, want)
		require.Empty(t, seen[events[0].Key], want)
		seen[events[0].Key] = want
		require.Equal(t, want, execute(b.ctx, t, page, data))
		require.Equal(t, []string{"n: hit"}, b.events.Outcomes())
	}
	// The same text is the same token.
	execute(b.ctx, t, page, map[string]any{"A": "1", "B": uint8(2), "V": "true"})
	require.Equal(t, []string{"n: hit"}, b.events.Outcomes())
	// What varies is no token.
	require.NoError(t, b.cache.Incr(b.ctx, "v"))
	execute(b.ctx, t, page, map[string]any{"A": "a", "B": "b", "V": "v"})
	require.Equal(t, []string{"n: hit"}, b.events.Outcomes())
}

func TestDotAndVariables(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := template.Must(template.New("page").Funcs(template.FuncMap{"up": strings.ToUpper}).Parse(
		`{{$x := "x"}}{{$.Root}}{{range $i, $e := .List}}{{icache "n" $i}}` +
			`{{.Name}}{{.Shout}}{{$x | up}}{{$i}}{{$e.Name}}{{$.Root}}{{$y := "y"}}{{$y}}{{with $x := "inner"}}{{$x}}{{end}}{{$x := "shadow"}}{{$x}}` +
			`{{endicache}}{{$x}}{{end}}`)).Cache(b.cache)
	data := struct {
		Root string
		List []person // elements can be addressed: Shout needs that
	}{"r", []person{{"ann"}, {"bob"}}}
	want := "rannANN!X0annryinnershadowxbobBOB!X1bobryinnershadowx"
	require.Equal(t, want, execute(b.ctx, t, page, data))
	require.Equal(t, want, execute(b.ctx, t, page, data))
	require.Equal(t, []string{"n: miss", "n: miss", "n: hit", "n: hit"}, b.events.Outcomes())
}

type person struct{ Name string }

func (p *person) Shout() string { return strings.ToUpper(p.Name) + "!" }

func TestNested(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `{{icache "list" "movies"}}{{.Next}}:{{range .IDs}}{{icache "row" .}}[{{.}} {{$.Next}}]{{endicache}}{{end}}{{endicache}}`)
	data := &counter{IDs: []string{"a", "b", "c"}}

	require.Equal(t, "1:[a 2][b 3][c 4]", execute(b.ctx, t, page, data))
	require.Equal(t, []string{"row: miss", "row: miss", "row: miss", "list: miss"}, b.events.Outcomes())
	require.Equal(t, "1:[a 2][b 3][c 4]", execute(b.ctx, t, page, data))
	require.Equal(t, []string{"list: hit"}, b.events.Outcomes())

	// An inner token outdates the outer block; the other rows are hits.
	require.NoError(t, b.cache.Incr(b.ctx, "b"))
	require.Equal(t, "5:[a 2][b 6][c 4]", execute(b.ctx, t, page, data))
	require.Equal(t, []string{"row: hit", "row: miss", "row: hit", "list: miss"}, b.events.Outcomes())

	// So does the token of a row that was a hit when the outer one was rendered.
	require.NoError(t, b.cache.Incr(b.ctx, "c"))
	require.Equal(t, "7:[a 2][b 6][c 8]", execute(b.ctx, t, page, data))
	events := b.events.Events()
	require.Equal(t, 1, events[0].Depth)
	outer := events[len(events)-1]
	require.Equal(t, 0, outer.Depth)
	require.Subset(t, outer.Tokens, []string{"list", "movies", "row", "a", "b", "c"})
	require.NotZero(t, outer.Version)

	// The outer token leaves the rows alone.
	require.NoError(t, b.cache.Incr(b.ctx, "movies"))
	require.Equal(t, "9:[a 2][b 6][c 8]", execute(b.ctx, t, page, data))
}

type counter struct {
	IDs []string
	n   atomic.Int64
}

func (c *counter) Next() int64 { return c.n.Add(1) }

func TestContextInsideBlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	calls := 0
	load := func(ctx context.Context) (string, error) {
		icache.Depend(ctx, "depended")
		return icache.Fetch(ctx, b.cache, "data", []string{"row:7"}, func(context.Context) (string, error) {
			calls++
			return fmt.Sprint("v", calls), nil
		})
	}
	page := template.Must(template.New("page").Funcs(template.FuncMap{"load": load}).Parse(
		`{{icache "n"}}{{load icachectx}}{{endicache}}`)).Cache(b.cache)
	require.Equal(t, "v1", execute(b.ctx, t, page, nil))
	require.Equal(t, "v1", execute(b.ctx, t, page, nil))
	require.NoError(t, b.cache.Incr(b.ctx, "row:7"))
	require.Equal(t, "v2", execute(b.ctx, t, page, nil))
	b.events.Events()
	require.NoError(t, b.cache.Incr(b.ctx, "depended"))
	require.Equal(t, "v2", execute(b.ctx, t, page, nil))
	require.Equal(t, []string{"n: miss"}, b.events.Outcomes())

	// Outside of a block it is the context of the execution.
	type key struct{}
	value := template.Must(template.New("page").Funcs(template.FuncMap{
		"value": func(ctx context.Context) any { return ctx.Value(key{}) },
	}).Parse(`{{value icachectx}}{{icache "n"}}{{value icachectx}}{{endicache}}`)).Cache(b.cache)
	require.Equal(t, "55", execute(context.WithValue(b.ctx, key{}, 5), t, value, nil))
}

func TestFailingBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var fail error
	page := template.Must(template.New("page").Funcs(template.FuncMap{
		"maybe": func() (string, error) { return "fine", fail },
	}).Parse("before\n{{icache \"outer\"}}a{{icache \"inner\"}}b{{maybe}}c{{endicache}}d{{endicache}}after")).Cache(b.cache)

	fail = errors.New("database is away")
	var out strings.Builder
	err := page.ExecuteContext(b.ctx, &out, nil)
	require.ErrorIs(t, err, fail)
	require.ErrorContains(t, err, "template: page:2:40: executing \"page\" at <maybe>: error calling maybe: database is away")
	require.Equal(t, "before\n", out.String(), "nothing of a failed block is written")
	for _, e := range b.events.Events() {
		require.ErrorIs(t, e.Err, fail)
		require.Equal(t, icache.Skipped, e.Outcome)
	}

	fail = nil
	require.Equal(t, "before\nabfinecdafter", execute(b.ctx, t, page, nil))
	require.Equal(t, []string{"inner: miss", "outer: miss"}, b.events.Outcomes())
}

func TestPanickingBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `{{icache "n"}}{{range .}}{{.}}{{end}}{{endicache}}`)
	bomb := func(yield func(string) bool) { panic("bomb") }
	require.Panics(t, func() { _ = page.ExecuteContext(b.ctx, io.Discard, bomb) })
	// Nobody is left waiting for it, and the copy of the set works again.
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	require.Equal(t, "ab", execute(ctx, t, page, []string{"a", "b"}))
}

func TestWriterFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `{{icache "n"}}body{{endicache}}`)
	broken := errors.New("client is gone")
	require.ErrorIs(t, page.ExecuteContext(b.ctx, failingWriter{broken}, nil), broken)
	require.ErrorIs(t, page.ExecuteContext(b.ctx, failingWriter{broken}, nil), broken)
	require.Equal(t, []string{"n: miss", "n: hit"}, b.events.Outcomes())
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestRedisAway(t *testing.T) {
	t.Parallel()
	server := servertest.OwnRedis(t)
	cache := tmpltest.CacheAt(t, server.URL())
	ctx, events := tmpltest.Record(t.Context())
	page := template.Must(template.New("page").Parse(
		`<p>{{icache "outer"}}{{range .}}{{icache "row" .}}[{{.}}]{{endicache}}{{end}}{{endicache}}</p>`)).Cache(cache)
	rows := []int{1, 2, 3}
	want := "<p>[1][2][3]</p>"
	require.Equal(t, want, execute(ctx, t, page, rows))
	events.Events()

	require.NoError(t, server.Stop())
	for range 3 {
		require.Equal(t, want, execute(ctx, t, page, rows))
	}
	for _, e := range events.Events() {
		require.Equal(t, icache.Degraded, e.Outcome)
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `a{{icache "n"}}b{{endicache}}`)
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	require.ErrorIs(t, page.ExecuteContext(ctx, io.Discard, nil), context.Canceled)
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `{{define "row"}}{{icache "row" .ID}}<i title="{{.ID}}">{{.ID}}</i>{{endicache}}{{end}}`+
		`{{icache "page" .Page}}{{.Page}}:{{range .Rows}}{{template "row" .}}{{end}}{{endicache}}{{.User}}`)
	type row struct{ ID int }
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 30 {
				n := (worker + i) % 5
				data := map[string]any{"Page": fmt.Sprint("p", n), "User": worker, "Rows": []row{{n}, {n + 1}}}
				want := fmt.Sprintf(`p%[1]d:<i title="%[1]d">%[1]d</i><i title="%[2]d">%[2]d</i>%[3]d`, n, n+1, worker)
				var out strings.Builder
				if err := page.ExecuteContext(b.ctx, &out, data); err != nil || out.String() != want {
					t.Errorf("got %q, %v; want %q", out.String(), err, want)
					return
				}
				if i%10 == 9 {
					if err := b.cache.Incr(b.ctx, fmt.Sprint(n)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestBypass(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.parse(t, `{{icache "n"}}{{.}}{{endicache}}`)
	require.Equal(t, "1", execute(b.ctx, t, page, 1))
	require.Equal(t, "2", execute(icache.Bypass(b.ctx), t, page, 2))
	require.Equal(t, "1", execute(b.ctx, t, page, 3))
}

func TestWithoutCache(t *testing.T) {
	t.Parallel()
	ctx, events := tmpltest.Record(t.Context())
	page := template.Must(template.New("page").Parse(`{{icache "o" "t"}}{{icache "n"}}{{.}}{{endicache}}{{endicache}}`))
	require.Equal(t, "1", execute(ctx, t, page, 1))
	require.Equal(t, "2", execute(ctx, t, page, 2))
	list := events.Events()
	require.Len(t, list, 4)
	require.Equal(t, tmpl.Event{Name: "n", Tokens: []string{"n"}, Outcome: icache.Skipped, Why: icache.WhyBypass, Bytes: 1, Depth: 1}, list[0])
}

func TestDigest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := func(files map[string]string, options ...string) string {
		fsys := make(fstest.MapFS)
		for name, text := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		set := template.Must(template.New("page").Option(options...).ParseFS(fsys, "*")).Cache(b.cache)
		execute(b.ctx, t, set, map[string]any{"T": "t"})
		return b.events.Events()[0].Key
	}
	base := map[string]string{
		"page":  `head {{icache "n" .T}}body {{template "row" .}}{{endicache}} foot`,
		"row":   `row {{template "cell" .}}`,
		"cell":  `cell`,
		"other": `other`,
	}
	with := func(name, text string) map[string]string {
		m := map[string]string{name: text}
		for k, v := range base {
			if m[k] == "" {
				m[k] = v
			}
		}
		return m
	}
	want := key(base)
	same := map[string]map[string]string{
		"again":                  base,
		"around the block":       with("page", "\n"+`HEAD {{icache "n" .T}}body {{template "row" .}}{{endicache}} FOOT {{icache "second"}}{{endicache}}`),
		"an unrelated template":  with("other", "changed {{icache `x`}}{{endicache}}"),
		"spacing inside actions": with("page", `head {{  icache "n"  .T  }}body {{ template "row" . }}{{ endicache }} foot`),
		"a comment":              with("row", `row {{/* hi */}}{{template "cell" .}}`),
	}
	for what, files := range same {
		require.Equal(t, want, key(files), what)
	}
	keys := map[string]string{"": want}
	for what, files := range map[string]map[string]string{
		"the body":                with("page", `head {{icache "n" .T}}BODY {{template "row" .}}{{endicache}} foot`),
		"the arguments":           with("page", `head {{icache "n" (print .T)}}body {{template "row" .}}{{endicache}} foot`),
		"a called template":       with("row", `ROW {{template "cell" .}}`),
		"a template called by it": with("cell", `CELL`),
		"text that looks like it": with("page", `head {{icache "n" .T}}body {{"{{"}}template "row" .}}{{endicache}} foot`),
		"the context":             with("page", `<p title="{{icache "n" .T}}body {{template "row" .}}{{endicache}}">`),
	} {
		got := key(files)
		for other, k := range keys {
			require.NotEqual(t, k, got, "%s and %s", what, other)
		}
		keys[what] = got
	}
	require.NotEqual(t, want, key(base, "missingkey=error"), "options")
}

func TestObserverDoesNotDisturb(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	page := template.Must(template.New("page").Parse(`{{icache "n" "t"}}{{.}}{{endicache}}`)).Cache(cache)
	require.Equal(t, "1", execute(t.Context(), t, page, 1))
	ctx, outer := tmpltest.Record(t.Context())
	ctx, inner := tmpltest.Record(ctx)
	require.Equal(t, "1", execute(ctx, t, page, 2))
	require.Equal(t, []string{"n: hit"}, outer.Outcomes())
	events := inner.Events()
	require.Len(t, events, 1)
	e := events[0]
	require.Equal(t, "n", e.Name)
	require.Contains(t, e.Key, "n:")
	require.Equal(t, 1, e.Bytes)
	require.Positive(t, e.Age)
	require.Less(t, e.Age, time.Minute)
}
