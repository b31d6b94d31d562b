package tmpltest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	texttemplate "text/template"
	"text/template/parse"

	"github.com/stretchr/testify/require"
)

// Template is the API that the template packages have in common.
type Template[T any] interface {
	comparable
	AddParseTree(name string, tree *parse.Tree) (T, error)
	Clone() (T, error)
	DefinedTemplates() string
	Delims(left, right string) T
	Execute(w io.Writer, data any) error
	ExecuteTemplate(w io.Writer, name string, data any) error
	Funcs(funcs texttemplate.FuncMap) T
	Lookup(name string) T
	Name() string
	New(name string) T
	Option(opt ...string) T
	Parse(text string) (T, error)
	ParseFS(fsys fs.FS, patterns ...string) (T, error)
	ParseFiles(filenames ...string) (T, error)
	ParseGlob(pattern string) (T, error)
	Templates() []T
}

// Package is a template package.
type Package[T Template[T]] struct {
	New        func(name string) T
	Must       func(t T, err error) T
	ParseFS    func(fsys fs.FS, patterns ...string) (T, error)
	ParseFiles func(filenames ...string) (T, error)
	ParseGlob  func(pattern string) (T, error)
}

// Parity makes the same calls of two packages, and requires the same results,
// errors included.
func Parity[S Template[S], T Template[T]](t *testing.T, standard Package[S], ours Package[T]) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, parityFiles))
	want, got := parityCalls(standard, dir), parityCalls(ours, dir)
	for name := range want {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, protect(want[name]), protect(got[name]))
		})
	}
}

var parityFiles = fstest.MapFS{
	"a.html":     {Data: []byte(`a:{{.X}}{{template "b.html" .}}`)},
	"b.html":     {Data: []byte(`b{{block "part" .}}[{{.X}}]{{end}}`)},
	"part.html":  {Data: []byte("{{define \"part\"}}<{{.X}}>{{end}}\n")},
	"sub/a.html": {Data: []byte(`other a`)},
	"bad.html":   {Data: []byte("one\n{{if}}")},
}

// protect returns what fn returns, or its panic.
func protect(fn func() string) (result string) {
	defer func() {
		if r := recover(); r != nil {
			result = "panic: " + generic(fmt.Sprint(r))
		}
	}()
	return fn()
}

// generic takes the name of the package out of an error.
func generic(s string) string { return strings.ReplaceAll(s, "html/template: ", "template: ") }

var parityData = map[string]any{"X": "x", "List": []int{1, 2, 3}}

// describe tells all that can be seen of a result.
func describe[T Template[T]](t T, err error) string {
	var none T
	if err != nil {
		return fmt.Sprintf("nil %t, error %s", t == none, generic(err.Error()))
	}
	if t == none {
		return "nil"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", t.Name())
	names := strings.Split(strings.TrimPrefix(t.DefinedTemplates(), "; defined templates are: "), ", ")
	slices.Sort(names)
	fmt.Fprintf(&b, "defined %v\n", names)
	defined := names
	names = nil
	for _, u := range t.Templates() {
		// html/template lists those that have no body too.
		if slices.Contains(defined, fmt.Sprintf("%q", u.Name())) {
			names = append(names, u.Name())
		}
	}
	slices.Sort(names)
	fmt.Fprintf(&b, "templates %v\n", names)
	for _, name := range names {
		found := t.Lookup(name)
		fmt.Fprintf(&b, "%s: %s", name, execute(func(w io.Writer) error { return found.Execute(w, parityData) }))
		fmt.Fprintf(&b, "%s: %s", name, execute(func(w io.Writer) error { return t.ExecuteTemplate(w, name, parityData) }))
	}
	fmt.Fprintf(&b, "itself: %s", execute(func(w io.Writer) error { return t.Execute(w, parityData) }))
	fmt.Fprintf(&b, "missing: %t %s", t.Lookup("missing") == none, execute(func(w io.Writer) error {
		return t.ExecuteTemplate(w, "missing", parityData)
	}))
	return b.String()
}

func execute(fn func(w io.Writer) error) string {
	var b strings.Builder
	err := fn(&b)
	if err != nil {
		return fmt.Sprintf("%q error %s\n", b.String(), generic(err.Error()))
	}
	return fmt.Sprintf("%q\n", b.String())
}

// parityCalls are uses of a package.
func parityCalls[T Template[T]](p Package[T], dir string) map[string]func() string {
	path := func(names ...string) []string {
		for i, name := range names {
			names[i] = filepath.Join(dir, name)
		}
		return names
	}
	funcs := texttemplate.FuncMap{"up": strings.ToUpper}
	parsed := func(text string) T { return p.Must(p.New("t").Funcs(funcs).Parse(text)) }
	calls := map[string]func() string{
		"ParseFS":                func() string { return describe(p.ParseFS(parityFiles, "a.html", "b.html")) },
		"ParseFS of patterns":    func() string { return describe(p.ParseFS(parityFiles, "[ab].html", "part.html")) },
		"ParseFS, same base":     func() string { return describe(p.ParseFS(parityFiles, "a.html", "b.html", "sub/*.html")) },
		"ParseFS without":        func() string { return describe(p.ParseFS(parityFiles)) },
		"ParseFS of nothing":     func() string { return describe(p.ParseFS(parityFiles, "a.html", "*.txt")) },
		"ParseFS, bad pattern":   func() string { return describe(p.ParseFS(parityFiles, "[")) },
		"ParseFS, bad file":      func() string { return describe(p.ParseFS(parityFiles, "a.html", "bad.html")) },
		"ParseFiles":             func() string { return describe(p.ParseFiles(path("b.html", "a.html")...)) },
		"ParseFiles without":     func() string { return describe(p.ParseFiles()) },
		"ParseFiles, no file":    func() string { return describe(p.ParseFiles(path("a.html", "none.html")...)) },
		"ParseGlob":              func() string { return describe(p.ParseGlob(path("[ap]*.html")[0])) },
		"ParseGlob of nothing":   func() string { return describe(p.ParseGlob(path("*.txt")[0])) },
		"ParseGlob, bad pattern": func() string { return describe(p.ParseGlob("[")) },
		"method ParseFS":         func() string { return describe(p.New("root").ParseFS(parityFiles, "a.html", "b.html")) },
		"method ParseFS, own":    func() string { return describe(p.New("b.html").ParseFS(parityFiles, "b.html")) },
		"method ParseFiles":      func() string { return describe(p.New("a.html").Funcs(funcs).ParseFiles(path("a.html", "b.html")...)) },
		"method ParseFiles none": func() string { return describe(p.New("a.html").ParseFiles()) },
		"method ParseGlob": func() string {
			// What was returned is empty in text/template, for it was New before part.html defined it.
			return describe(p.Must(p.New("part").ParseGlob(path("part.html")[0])).Lookup("part"), nil)
		},
		"file of defines only": func() string { return describe(p.New("part.html").ParseFS(parityFiles, "part.html")) },
		"layout and page": func() string {
			layout := p.Must(p.ParseFS(parityFiles, "b.html"))
			page := p.Must(p.Must(layout.Clone()).ParseFS(parityFiles, "part.html"))
			return describe(layout, nil) + describe(page, nil)
		},
		"New and nothing else": func() string { return describe(p.New("t"), nil) },
		"no name":              func() string { return describe(p.New("").Parse("x")) },
		"New on a template": func() string {
			t := p.New("t")
			p.Must(t.New("u").Parse(`u{{.X}}`))
			return describe(t.Parse(`t{{template "u" .}}`))
		},
		"Must of an error": func() string {
			return describe(p.Must(p.New("t").Parse("\n{{")), nil)
		},
		"Funcs": func() string { return describe(p.New("t").Funcs(funcs).Parse(`{{up .X}}{{.X | up | printf "%q"}}`)) },
		"Funcs later": func() string {
			t := parsed(`{{up .X}}`)
			t.Funcs(texttemplate.FuncMap{"up": strings.ToTitle})
			return describe(t, nil)
		},
		"Funcs, not defined": func() string { return describe(p.New("t").Parse(`{{up .X}}`)) },
		"Funcs, no function": func() string { return describe(p.New("t").Funcs(texttemplate.FuncMap{"f": 1}), nil) },
		"Funcs, two results": func() string {
			return describe(p.New("t").Funcs(texttemplate.FuncMap{"f": func() (int, int) { return 1, 2 }}), nil)
		},
		"Funcs, bad name": func() string {
			return describe(p.New("t").Funcs(texttemplate.FuncMap{"a-b": strings.ToUpper}), nil)
		},
		"Funcs, builtin replaced": func() string {
			return describe(p.New("t").Funcs(texttemplate.FuncMap{"len": func(any) int { return 42 }}).Parse(`{{len .X}}`))
		},
		"Delims": func() string { return describe(p.New("t").Delims("[[", "]]").Parse(`{{.X}} [[.X]] [[/* c */]]`)) },
		"Delims inherited": func() string {
			t := p.New("t").Delims("<<", ">>")
			p.Must(t.New("u").Parse(`<<.X>>{{`))
			return describe(t.Parse(`<<define "v">><<.X>><<end>><<template "u" .>>`))
		},
		"Delims, default": func() string { return describe(p.New("t").Delims("", "]]").Parse(`{{.X]]`)) },
		"Delims of files": func() string { return describe(p.New("a.html").Delims("[[", "]]").ParseFS(parityFiles, "a.html")) },
		"Option": func() string {
			return describe(p.New("t").Option("missingkey=error").Parse(`{{.Y}}`)) + describe(p.New("t").Option("missingkey=zero").Parse(`{{.Y}}`))
		},
		"Option, unknown":  func() string { return describe(p.New("t").Option("missing=1"), nil) },
		"Option, no value": func() string { return describe(p.New("t").Option("missingkey"), nil) },
		"Lookup": func() string {
			t := parsed(`t{{define "u"}}u{{end}}`)
			return describe(t.Lookup("u"), nil) + describe(t.Lookup("none"), nil)
		},
		"Clone": func() string {
			t := parsed(`t{{template "u" .}}{{define "u"}}u{{end}}`)
			c := p.Must(t.Clone())
			p.Must(c.Parse(`{{define "u"}}new{{end}}{{define "v"}}v{{end}}`))
			return describe(t, nil) + describe(c, nil)
		},
		"redefined": func() string {
			t := parsed(`one{{define "u"}}1{{end}}`)
			p.Must(t.Parse(`two{{template "u"}}{{define "u"}}2{{end}}`))
			return describe(t, nil)
		},
		"redefined by nothing": func() string {
			t := parsed(`one{{define "u"}}1{{end}}`)
			return describe(t.Parse(" {{/* nothing */}} {{define \"u\"}} {{end}}"))
		},
		"defined twice": func() string { return describe(p.New("t").Parse(`{{define "u"}}1{{end}}{{define "u"}}2{{end}}`)) },
		"AddParseTree": func() string {
			trees, err := parse.Parse("tree", `tree{{.X}}{{up .X}}`, "", "", funcs)
			if err != nil {
				return err.Error()
			}
			t := parsed(`t{{template "tree" .}}`)
			added, err := t.AddParseTree("tree", trees["tree"])
			return describe(added, err) + describe(t, nil)
		},
		"failed parse changes nothing": func() string {
			t := parsed(`one`)
			_, err := t.Parse(`two{{define "u"}}u{{end}}{{if}}`)
			return describe(t, err) + describe(t, nil)
		},
	}
	for name, text := range map[string]string{
		"break and continue":     `{{range .List}}{{if eq . 2}}{{continue}}{{end}}{{if eq . 3}}{{break}}{{end}}{{.}}{{end}}`,
		"range else":             `{{range $i, $e := .None}}{{$i}}{{else}}none{{end}}`,
		"range over a number":    `{{range 3}}{{.}}{{end}}`,
		"with else with":         `{{with .None}}1{{else with .X}}{{.}}{{else}}3{{end}}`,
		"block":                  `{{block "u" .}}u{{.X}}{{end}}{{define "v"}}v{{template "u" $}}{{end}}{{template "v" .}}`,
		"variables":              `{{$a := 1}}{{range $i, $e := .List}}{{$a = $e}}{{end}}{{$a}}`,
		"trimming":               "a \n {{- .X -}} \n b {{- /* c */ -}} c",
		"comparisons":            `{{if and (lt 1 2) (not (ge 1 2)) (or 0 "x")}}{{eq .X "y" "x"}}{{end}}{{index .List 1}}{{slice .X 0 1}}`,
		"break outside":          `{{break}}`,
		"define inside":          `{{if .X}}{{define "u"}}{{end}}{{end}}`,
		"no end":                 "a\n\n{{range .List}}",
		"unexpected end":         "{{end}}",
		"call of what is not":    `a{{template "none" .}}`,
		"failing function":       "a\nb{{index .List 7}}c",
		"field of what has none": "a\n  {{.X.Y}}",
		"unknown variable":       `{{$y}}`,
		"nothing":                "",
		"space only":             " \n",
		"define only":            `{{define "u"}}u{{end}}`,
	} {
		calls["text: "+name] = func() string { return describe(p.New("t").Parse(text)) }
	}
	return calls
}
