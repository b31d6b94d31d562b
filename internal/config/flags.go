package config

import (
	"github.com/knadh/koanf/providers/posflag"
	"github.com/spf13/pflag"

	"github.com/icache-go/icache-agent/mapping"
)

// flags are the settings that have a flag, in the order of the help text.
var flags = []struct{ name, path, usage string }{
	{"postgres-url", "postgres.url", "connection `URL` of the database; a password in it shows in the process list"},
	{"redis-url", "redis.url", "`URL` of Redis; a password in it shows in the process list"},
	{"schema", "postgres.schema", "`schema` that holds the objects of icache"},
	{"http-listen", "http.listen", "`address` of status page, metrics and health, empty for none"},
	{"log-level", "log.level", "debug, info, warn or error"},
	{"log-format", "log.format", "text or json"},
}

// RegisterFlags adds the flags that [Load] reads. Only flags that are given on
// the command line count: their defaults are those of the configuration.
func RegisterFlags(fs *pflag.FlagSet) {
	for _, f := range flags {
		fs.String(f.name, "", f.usage)
	}
}

// readFlags reads the flags that were given.
func readFlags(fs *pflag.FlagSet) *layer {
	l := newLayer()
	if fs == nil {
		return l
	}
	paths := map[string]string{}
	for _, f := range flags {
		paths[f.name] = f.path
	}
	values, err := posflag.ProviderWithFlag(fs, ".", nil, func(f *pflag.Flag) (string, any) {
		path, ok := paths[f.Name]
		if !ok || !f.Changed {
			return "", nil
		}
		return l.set(settings[path], f.Value.String(), mapping.Position{File: "--" + f.Name})
	}).Read()
	l.take(values, err)
	return l
}
