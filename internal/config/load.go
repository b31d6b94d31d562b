package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/icache-go/icache-agent/mapping"
)

// maxSecret is the length in bytes of the longest secret.
const maxSecret = 64 << 10

// DefaultFile is read if no file is named and it is there.
const DefaultFile = "icache.yaml"

// Options say where [Load] looks.
type Options struct {
	// File that must exist. Empty means the one that ICACHE_CONFIG names,
	// else [DefaultFile] in the working directory, if it is there.
	File string
	// Environ are the environment variables. Nil means those of the process.
	Environ []string
	// Flags that were registered with [RegisterFlags], parsed. May be nil.
	Flags *pflag.FlagSet
}

// Load reads and checks the configuration. Mistakes in it are an *[Error].
// Warnings are for people; each is one line.
func Load(opts Options) (*Config, []string, error) {
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	file, fileLayer, err := loadFile(opts)
	if err != nil {
		return nil, nil, err
	}
	envLayer, warnings := readEnv(opts.Environ)
	layers := []*layer{fileLayer, envLayer, readFlags(opts.Flags)}

	k := koanf.New(".")
	if err := k.Load(structs.Provider(*Default(), "koanf"), nil); err != nil {
		return nil, warnings, fmt.Errorf("load defaults: %w", err)
	}
	merged := newLayer()
	for _, l := range layers {
		displaceURLs(k, l)
		if err := k.Load(confmap.Provider(l.values, ""), nil); err != nil {
			return nil, warnings, fmt.Errorf("merge configuration: %w", err)
		}
		merged.overlay(l)
	}
	cfg := &Config{file: file}
	err = k.UnmarshalWithConf("", cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result:      cfg,
		TagName:     "koanf",
		ErrorUnused: true,
		MatchName:   func(key, field string) bool { return key == field },
	}})
	if err != nil {
		return nil, warnings, fmt.Errorf("decode configuration: %w", err)
	}
	cfg.readSecrets(merged)
	cfg.readTokens(merged, opts.Environ)
	cfg.check(merged)
	if len(merged.problems) > 0 {
		return nil, warnings, merged.error()
	}
	return cfg, append(warnings, cfg.doubts()...), nil
}

// Validate checks a configuration that was not loaded but put together.
// Mistakes are an *[Error].
func (c *Config) Validate() error {
	l := newLayer()
	c.readSecrets(l)
	c.readTokens(l, os.Environ())
	c.check(l)
	return l.error()
}

// loadFile finds and reads the file.
func loadFile(opts Options) (string, *layer, error) {
	file, named := opts.File, true
	if file == "" {
		i := slices.IndexFunc(opts.Environ, func(e string) bool { return strings.HasPrefix(e, fileEnv+"=") })
		if i >= 0 {
			file = strings.TrimPrefix(opts.Environ[i], fileEnv+"=")
		}
	}
	if file == "" {
		file, named = DefaultFile, false
	}
	content, err := os.ReadFile(file)
	switch {
	case err == nil:
		return file, readYAML(file, content), nil
	case !named && errors.Is(err, fs.ErrNotExist):
		return "", newLayer(), nil
	}
	problem := &mapping.Error{Pos: mapping.Position{File: file}, Msg: "cannot read the config: " + cause(err), Err: err}
	if errors.Is(err, fs.ErrNotExist) {
		problem.Hint = "icache-agent init writes one"
	}
	return file, nil, &Error{Problems: []*mapping.Error{problem}}
}

// cause is an error without the operation and the path.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return err.Error()
}

// displaceURLs removes a url of lower layers if the layer has a url_file, and the reverse.
func displaceURLs(k *koanf.Koanf, l *layer) {
	for _, section := range []string{"postgres", "redis"} {
		values, _ := l.values[section].(map[string]any)
		for key, other := range map[string]string{"url": "url_file", "url_file": "url"} {
			if _, ok := values[key]; ok {
				k.Delete(section + "." + other)
			}
		}
	}
}

// overlay lays what o knows of places over l.
func (l *layer) overlay(o *layer) {
	maps.Copy(l.at, o.at)
	maps.Copy(l.texts, o.texts)
	maps.Copy(l.misspelt, o.misspelt)
	l.problems = append(l.problems, o.problems...)
}

// error returns the problems in the order of the file, or nil.
func (l *layer) error() error {
	if len(l.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(l.problems, func(a, b *mapping.Error) int {
		if a.Pos.Line == 0 || b.Pos.Line == 0 {
			return cmp.Compare(b.Pos.Line, a.Pos.Line) // what is not in the file comes last
		}
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return &Error{Problems: l.problems}
}

// readSecrets reads what url_file names.
func (c *Config) readSecrets(l *layer) {
	c.Postgres.URL = readSecret(l, "postgres", c.Postgres.URL, c.Postgres.URLFile, c.file)
	c.Redis.URL = readSecret(l, "redis", c.Redis.URL, c.Redis.URLFile, c.file)
}

func readSecret(l *layer, section string, url URL, file, config string) URL {
	if file == "" {
		return url
	}
	pos := l.at[section+".url_file"]
	if url != "" {
		l.fail(pos, "both "+section+".url and "+section+".url_file", "keep one")
		return ""
	}
	secret, ok := secretFile(l, section+".url_file", "the URL", file, config)
	if ok {
		l.at[section+".url"] = pos
	}
	return URL(secret)
}

// secretFile reads the file that a key names; what is what it should hold.
func secretFile(l *layer, key, what, file, config string) (string, bool) {
	pos := l.at[key]
	if !filepath.IsAbs(file) && pos.Line > 0 {
		file = filepath.Join(filepath.Dir(config), file)
	}
	content, err := readShort(file)
	if err != nil {
		l.problems = append(l.problems, &mapping.Error{Pos: pos, Msg: fmt.Sprintf("cannot read %s %s: %s", key, brief(file), cause(err)), Err: err})
		return "", false
	}
	secret := strings.TrimSpace(string(content))
	switch {
	case len(content) > maxSecret:
		l.fail(pos, fmt.Sprintf("%s %s is too long for a %s", key, brief(file), strings.TrimPrefix(what, "the ")), "write "+what+" into it, and nothing else")
		return "", false
	case secret == "":
		l.fail(pos, fmt.Sprintf("%s %s is empty", key, brief(file)), "write "+what+" into it")
	}
	return secret, true
}

// readShort reads a file, but not much more than a URL can have.
func readShort(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret+1))
}
