package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/env/v2"

	"github.com/icache-go/icache-agent/internal/suggest"
	"github.com/icache-go/icache-agent/mapping"
)

const (
	envPrefix = "ICACHE_"
	fileEnv   = "ICACHE_CONFIG"
)

// injected are the variables that Kubernetes sets for a Service named icache, or icache-….
var injected = regexp.MustCompile(`^ICACHE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// envName returns the variable that sets a path: ICACHE_POSTGRES__URL for postgres.url.
func envName(path string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "__"))
}

// readEnv reads the variables that are known and warns about others.
func readEnv(environ []string) (*layer, []string) {
	l := newLayer()
	known := map[string]*field{}
	names := []string{strings.TrimPrefix(fileEnv, envPrefix)}
	for path, f := range settings {
		known[envName(path)] = f
		names = append(names, strings.TrimPrefix(envName(path), envPrefix))
	}
	slices.Sort(names)
	var unknown, kubernetes []string
	values, err := env.Provider(".", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			f := known[name]
			switch {
			case name == fileEnv:
				return "", nil
			case f == nil && injected.MatchString(name):
				kubernetes = append(kubernetes, name)
				return "", nil
			case f == nil:
				unknown = append(unknown, name)
				return "", nil
			}
			return l.set(f, value, mapping.Position{File: name})
		},
	}).Read()
	l.take(values, err)

	var warnings []string
	slices.Sort(unknown)
	for _, name := range unknown {
		w := "unknown environment variable " + name
		if near := suggest.Closest(strings.TrimPrefix(name, envPrefix), names); near != "" {
			w += ` (did you mean "` + envPrefix + near + `"?)`
		}
		warnings = append(warnings, w)
	}
	if len(kubernetes) > 0 {
		slices.Sort(kubernetes)
		warnings = append(warnings, fmt.Sprintf("ignored environment variables of a Kubernetes Service: %s (enableServiceLinks: false in the pod spec keeps them out)", strings.Join(kubernetes, ", ")))
	}
	return l, warnings
}

// take keeps what a provider of koanf has read.
func (l *layer) take(values map[string]any, err error) {
	if err != nil {
		l.fail(mapping.Position{}, err.Error(), "")
		return
	}
	l.values = values
}

// set parses a text for a field; it returns what koanf's callbacks return.
func (l *layer) set(f *field, text string, pos mapping.Position) (string, any) {
	v, problem := f.parse(text)
	if problem != nil {
		problem.Pos = pos
		l.problems = append(l.problems, problem)
		return "", nil
	}
	l.at[f.path] = pos
	return f.path, v
}
