package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/icache-go/icache-agent/internal/suggest"
	"github.com/icache-go/icache-agent/mapping"
)

// field describes a key of the configuration, from the struct and its tags:
// the one description that file, environment, schema and messages share.
type field struct {
	name   string
	path   string // "postgres.url"; of items of a list without the index
	typ    reflect.Type
	doc    string
	enum   []string
	fields []*field // of a section, or of the items of a list of sections
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	rateType     = reflect.TypeFor[Rate]()
	settleType   = reflect.TypeFor[Settle]()
	urlType      = reflect.TypeFor[URL]()
	listType     = reflect.TypeFor[[]string]()
)

var (
	root = &field{typ: reflect.TypeFor[Config](), fields: describe(reflect.TypeFor[Config](), "")}
	// settings are the keys that hold a single value, by path.
	settings = flatten(root.fields)
)

func describe(t reflect.Type, prefix string) []*field {
	var list []*field
	for f := range t.Fields() {
		name := f.Tag.Get("koanf")
		if name == "" {
			continue
		}
		d := &field{name: name, path: prefix + name, typ: f.Type, doc: f.Tag.Get("doc"), enum: enum(f)}
		switch {
		case f.Type.Kind() == reflect.Struct:
			d.fields = describe(f.Type, d.path+".")
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			d.fields = describe(f.Type.Elem(), d.path+".")
		}
		list = append(list, d)
	}
	return list
}

// enum returns the values that a field is limited to, from the tag that the schema is made from.
func enum(f reflect.StructField) []string {
	var values []string
	for part := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
		if v, ok := strings.CutPrefix(part, "enum="); ok {
			values = append(values, v)
		}
	}
	return values
}

func flatten(fields []*field) map[string]*field {
	m := map[string]*field{}
	for _, f := range fields {
		if f.typ.Kind() == reflect.Struct {
			for _, leaf := range f.fields {
				m[leaf.path] = leaf
			}
		}
	}
	return m
}

// settings returns the values of the settings, by path.
func (c *Config) settings() map[string]any {
	values := make(map[string]any, len(settings))
	v := reflect.ValueOf(*c)
	for section, sv := range v.Fields() {
		name := section.Tag.Get("koanf")
		if name == "" || sv.Kind() != reflect.Struct {
			continue
		}
		for leaf, lv := range sv.Fields() {
			values[name+"."+leaf.Tag.Get("koanf")] = lv.Interface()
		}
	}
	return values
}

// child returns the field of that name, or nil.
func (f *field) child(name string) *field {
	for _, c := range f.fields {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (f *field) names() []string {
	names := make([]string, len(f.fields))
	for i, c := range f.fields {
		names[i] = c.name
	}
	return names
}

// parse turns a text into a value of the field's type, which must not be a list.
func (f *field) parse(text string) (any, *mapping.Error) {
	switch {
	case f.typ == settleType && text == settleReplicas:
		return SettleReplicas, nil
	case f.typ == settleType:
		d, problem := (&field{path: f.path, typ: durationType}).parse(text)
		if problem != nil {
			problem.Hint += ", or replicas"
			return nil, problem
		}
		return Settle(d.(time.Duration)), nil
	case f.typ == durationType:
		d, err := time.ParseDuration(text)
		switch _, number := strconv.ParseFloat(text, 64); {
		case number == nil:
			return nil, &mapping.Error{Msg: fmt.Sprintf("%s is a number without a unit: %s", f.path, text), Hint: durationHint(text)}
		case err != nil:
			return nil, &mapping.Error{Msg: fmt.Sprintf("%s is not a duration: %s", f.path, brief(text)), Hint: "write a number with a unit: 500ms, 2s, 5m, 1h30m"}
		case d < 0:
			return nil, &mapping.Error{Msg: fmt.Sprintf("%s is negative: %s", f.path, brief(text)), Hint: "use a duration from 0s up"}
		}
		return d, nil
	case f.typ == rateType:
		return parseRate(f.path, text)
	case f.typ == sizeType:
		s, err := ParseSize(text)
		if err != nil {
			return nil, &mapping.Error{Msg: fmt.Sprintf("%s is not a size with a unit: %s", f.path, brief(text)), Hint: "write it as Postgres does: 64kB, 256MB, 1GB"}
		}
		return s, nil
	case f.typ.Kind() == reflect.Bool:
		switch text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, &mapping.Error{Msg: fmt.Sprintf("%s is neither true nor false: %s", f.path, brief(text)), Hint: "use true or false"}
	case f.typ.Kind() == reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, &mapping.Error{Msg: fmt.Sprintf("%s is not a whole number: %s", f.path, brief(text)), Hint: "use a number from 1 up"}
		}
		return int(n), nil
	}
	return text, nil
}

func durationHint(number string) string {
	if number == "0" {
		return "write 0s"
	}
	return "write " + number + "s for seconds, " + number + "ms for milliseconds"
}

// check returns what is wrong with a value that a field's enum does not list.
func (f *field) check(value string) *mapping.Error {
	if slices.Contains(f.enum, value) {
		return nil
	}
	hint := suggest.DidYouMean(value, f.enum)
	if hint == "" {
		hint = "use " + oneOf(f.enum)
	}
	return &mapping.Error{Msg: fmt.Sprintf("unknown %s %s", f.path, brief(value)), Hint: hint}
}

// oneOf lists words for a hint.
func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// brief quotes a value for a message.
func brief(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}
