package template

import (
	"io/fs"

	"github.com/icache-go/icache-agent/tmpl/internal/engine"
)

// ParseFiles parses the files as templates with their base names. The result is
// the template of the first file.
func ParseFiles(filenames ...string) (*Template, error) {
	return parseFiles(nil, engine.Files(filenames...))
}

// ParseGlob is ParseFiles with the files that match the pattern.
func ParseGlob(pattern string) (*Template, error) { return parseFiles(nil, engine.Glob(pattern)) }

// ParseFS is ParseGlob with patterns in a file system.
func ParseFS(fsys fs.FS, patterns ...string) (*Template, error) {
	return parseFiles(nil, engine.FS(fsys, patterns...))
}

// ParseFiles parses the files as templates with their base names, associated
// with t. The result is t; a file with the name of t becomes its body.
func (t *Template) ParseFiles(filenames ...string) (*Template, error) {
	return parseFiles(t, engine.Files(filenames...))
}

// ParseGlob is ParseFiles with the files that match the pattern.
func (t *Template) ParseGlob(pattern string) (*Template, error) {
	return parseFiles(t, engine.Glob(pattern))
}

// ParseFS is ParseGlob with patterns in a file system.
func (t *Template) ParseFS(fsys fs.FS, patterns ...string) (*Template, error) {
	return parseFiles(t, engine.FS(fsys, patterns...))
}

func parseFiles(t *Template, files engine.FileSeq) (*Template, error) {
	for f, err := range files {
		if err != nil {
			return nil, err
		}
		if t == nil {
			t = New(f.Name)
		}
		if _, err := t.New(f.Name).Parse(f.Text); err != nil {
			return nil, err
		}
	}
	return t, nil
}
