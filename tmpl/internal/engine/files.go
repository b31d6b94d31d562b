package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
)

// File is the text of a template and its name, which is the base name of the file.
type File struct{ Name, Text string }

// FileSeq yields files, or an error and then nothing more.
type FileSeq = iter.Seq2[File, error]

// Files yields the files named, of which there must be one.
func Files(filenames ...string) FileSeq {
	return func(yield func(File, error) bool) {
		if len(filenames) == 0 {
			yield(File{}, errors.New("template: no files named in call to ParseFiles"))
			return
		}
		for _, name := range filenames {
			b, err := os.ReadFile(name)
			if !yield(File{filepath.Base(name), string(b)}, err) || err != nil {
				return
			}
		}
	}
}

// Glob yields the files that match the pattern, of which there must be one.
func Glob(pattern string) FileSeq {
	return func(yield func(File, error) bool) {
		names, err := filepath.Glob(pattern)
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("template: pattern matches no files: %#q", pattern)
		}
		if err != nil {
			yield(File{}, err)
			return
		}
		Files(names...)(yield)
	}
}

// FS yields the files of fsys that match the patterns, at least one for each.
func FS(fsys fs.FS, patterns ...string) FileSeq {
	return func(yield func(File, error) bool) {
		var names []string
		for _, pattern := range patterns {
			list, err := fs.Glob(fsys, pattern)
			if err == nil && len(list) == 0 {
				err = fmt.Errorf("template: pattern matches no files: %#q", pattern)
			}
			if err != nil {
				yield(File{}, err)
				return
			}
			names = append(names, list...)
		}
		if len(names) == 0 {
			yield(File{}, errors.New("template: no files named in call to ParseFiles"))
			return
		}
		for _, name := range names {
			b, err := fs.ReadFile(fsys, name)
			if !yield(File{path.Base(name), string(b)}, err) || err != nil {
				return
			}
		}
	}
}
