package template_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	stdtemplate "text/template"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/tmpl/internal/tmpltest"
	"github.com/icache-go/icache-agent/tmpl/text/template"
)

func TestBlocks(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	ctx, events := tmpltest.Record(t.Context())
	mail := template.Must(template.New("mail").Parse(
		"{{$x := .Name}}Dear {{icache \"greeting\" .ID}}{{$x}} <{{.Name}}>{{endicache}},\n" +
			"{{range .List -}} {{- icache `row` . -}} * {{.}} {{- endicache}}\n{{end}}")).Cache(cache)
	run := func(name string) string {
		var out strings.Builder
		require.NoError(t, mail.ExecuteContext(ctx, &out, map[string]any{"ID": 7, "Name": name, "List": []string{"a", "b"}}))
		return out.String()
	}
	require.Equal(t, "Dear ann <ann>,\n* a\n* b\n", run("ann"), "nothing is escaped")
	require.Equal(t, "Dear ann <ann>,\n* a\n* b\n", run("bob"))
	require.NoError(t, cache.Incr(ctx, "7"))
	require.Equal(t, "Dear bob <bob>,\n* a\n* b\n", run("bob"))
	require.Equal(t, []string{
		"greeting: miss", "row: miss", "row: miss", "greeting: hit", "row: hit", "row: hit", "greeting: miss", "row: hit", "row: hit",
	}, events.Outcomes())
}

func TestHTMLAndTextDoNotMeet(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	const text = `{{icache "n"}}{{.}}{{endicache}}`
	for _, loaded := range []*template.Template{
		template.Must(template.New("a").Parse(text)).Cache(cache),
		template.Must(template.New("b").Delims("<<", ">>").Parse(`<<icache "n">><<.>><<endicache>>`)).Cache(cache),
	} {
		var out strings.Builder
		require.NoError(t, loaded.Execute(&out, "<1>"))
		require.Equal(t, "<1>", out.String())
	}
}

// TestLoading compares the loading functions with the standard library's.
func TestLoading(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a.txt": "A{{template \"b.txt\"}}", "b.txt": "B", "c.txt": "{{define \"d\"}}D{{end}}"}
	dir, fsys := t.TempDir(), make(fstest.MapFS)
	var paths []string
	for _, name := range []string{"a.txt", "b.txt", "c.txt"} {
		paths = append(paths, filepath.Join(dir, name))
		require.NoError(t, os.WriteFile(paths[len(paths)-1], []byte(files[name]), 0o600))
		fsys[name] = &fstest.MapFile{Data: []byte(files[name])}
	}
	glob := filepath.Join(dir, "*.txt")
	missing := filepath.Join(dir, "none", "*.txt")

	type result struct {
		name, defined string
		err           string
	}
	std := func(t *stdtemplate.Template, err error) result {
		if err != nil {
			return result{err: err.Error()}
		}
		return result{t.Name(), sortDefined(t.DefinedTemplates()), ""}
	}
	ours := func(t *template.Template, err error) result {
		if err != nil {
			return result{err: err.Error()}
		}
		return result{t.Name(), sortDefined(t.DefinedTemplates()), ""}
	}
	require.Equal(t, std(stdtemplate.ParseFiles(paths...)), ours(template.ParseFiles(paths...)))
	require.Equal(t, std(stdtemplate.ParseGlob(glob)), ours(template.ParseGlob(glob)))
	require.Equal(t, std(stdtemplate.ParseFS(fsys, "*.txt")), ours(template.ParseFS(fsys, "*.txt")))
	require.Equal(t, std(stdtemplate.ParseFS(fsys, "c.*", "a.*")), ours(template.ParseFS(fsys, "c.*", "a.*")))
	require.Equal(t, std(stdtemplate.ParseFiles()), ours(template.ParseFiles()))
	require.Equal(t, std(stdtemplate.ParseFiles(missing)), ours(template.ParseFiles(missing)))
	require.Equal(t, std(stdtemplate.ParseGlob(missing)), ours(template.ParseGlob(missing)))
	require.Equal(t, std(stdtemplate.ParseGlob("[")), ours(template.ParseGlob("[")))
	require.Equal(t, std(stdtemplate.ParseFS(fsys, "*.html")), ours(template.ParseFS(fsys, "*.html")))
	require.Equal(t, std(stdtemplate.ParseFS(fsys)), ours(template.ParseFS(fsys)))
	require.Equal(t, std(stdtemplate.New("b.txt").ParseFiles(paths...)), ours(template.New("b.txt").ParseFiles(paths...)))
	require.Equal(t, std(stdtemplate.New("x").ParseGlob(glob)), ours(template.New("x").ParseGlob(glob)))
	require.Equal(t, std(stdtemplate.New("x").ParseFS(fsys, "*")), ours(template.New("x").ParseFS(fsys, "*")))
	require.Equal(t, std(stdtemplate.New("x").Parse("{{")), ours(template.New("x").Parse("{{")))
	require.Equal(t, std(stdtemplate.New("x"), nil), ours(template.New("x"), nil))
	require.Panics(t, func() { template.Must(template.New("x").Parse("{{")) })

	loaded := template.Must(template.ParseFS(fsys, "*.txt"))
	var names []string
	for _, l := range loaded.Templates() {
		names = append(names, l.Name())
	}
	require.Equal(t, []string{"a.txt", "b.txt", "c.txt", "d"}, names)
	var out strings.Builder
	require.NoError(t, loaded.Execute(&out, nil))
	require.NoError(t, loaded.ExecuteTemplate(&out, "d", nil))
	require.NoError(t, loaded.Lookup("b.txt").Execute(&out, nil))
	require.Equal(t, "ABDB", out.String())
	require.Nil(t, loaded.Lookup("e"))
}

func sortDefined(s string) string {
	_, list, ok := strings.Cut(s, ": ")
	if !ok {
		return s
	}
	names := strings.Split(list, ", ")
	m := make(map[string]bool)
	for _, n := range names {
		m[n] = true
	}
	var b strings.Builder
	for _, n := range []string{`"a.txt"`, `"b.txt"`, `"c.txt"`, `"d"`, `"x"`} {
		if m[n] {
			b.WriteString(n)
		}
	}
	return b.String()
}

// TestExecutionLikeStandard compares what has nothing to do with the cache.
func TestExecutionLikeStandard(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	funcs := template.FuncMap{"fail": func() (string, error) { return "", boom }}
	for _, tt := range []struct{ text, name string }{
		{"a{{.X}}b", "page"}, {"{{fail}}", "page"}, {"", "page"}, {"{{define \"x\"}}{{end}}", "x"},
		{"a", "none"}, {"{{.X.Y}}", "page"}, {"{{template \"none\"}}", "page"}, {"{{.missing}}", "page"},
		{"{{define \"page\"}}second{{end}}", "page"}, {"{{block \"x\" .}}b{{end}}", "page"},
	} {
		var want, got strings.Builder
		std := stdtemplate.Must(stdtemplate.New("page").Option("missingkey=zero").Funcs(funcs).Parse(tt.text))
		wantErr := std.ExecuteTemplate(&want, tt.name, map[string]int{"X": 1})
		ours := template.Must(template.New("page").Option("missingkey=zero").Funcs(funcs).Parse(tt.text))
		gotErr := ours.ExecuteTemplate(&got, tt.name, map[string]int{"X": 1})
		require.Equal(t, want.String(), got.String(), tt.text)
		require.Equal(t, wantErr == nil, gotErr == nil, tt.text)
		if wantErr != nil {
			require.Equal(t, wantErr.Error(), gotErr.Error())
			require.Equal(t, errors.Is(wantErr, boom), errors.Is(gotErr, boom))
		}
	}
	require.EqualError(t, template.New("empty").Execute(io.Discard, nil), `template: empty: "empty" is an incomplete or empty template`)
	require.EqualError(t, stdtemplate.New("empty").Execute(io.Discard, nil), `template: empty: "empty" is an incomplete or empty template`)
}

func TestCloneAndRedefine(t *testing.T) {
	t.Parallel()
	cache := tmpltest.Cache(t)
	layout := template.Must(template.New("layout").Parse(
		`[{{icache "frame"}}{{block "content" .}}default{{end}}{{endicache}}]`)).Cache(cache)
	run := func(l *template.Template) string {
		var out strings.Builder
		require.NoError(t, l.Execute(&out, nil))
		return out.String()
	}
	require.Equal(t, "[default]", run(layout))
	one := template.Must(template.Must(layout.Clone()).Parse(`{{define "content"}}one{{end}}`))
	two := template.Must(template.Must(layout.Clone()).Parse(`{{define "content"}}{{icache "two"}}two{{endicache}}{{end}}`))
	for range 2 {
		require.Equal(t, "[default]", run(layout))
		require.Equal(t, "[one]", run(one), "what a block calls is part of its identity")
		require.Equal(t, "[two]", run(two))
	}
	template.Must(layout.New("content").Parse("changed"))
	require.Equal(t, "[changed]", run(layout))
	require.Equal(t, "[one]", run(one))

	added, err := layout.AddParseTree("content", stdtemplate.Must(stdtemplate.New("t").Parse("tree")).Tree)
	require.NoError(t, err)
	require.Equal(t, "content", added.Name())
	require.Equal(t, "[tree]", run(layout))
}
