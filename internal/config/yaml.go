package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/icache-go/icache-agent/internal/suggest"
	"github.com/icache-go/icache-agent/mapping"
)

// maxNodes bounds the work that aliases and merges can cause.
const maxNodes = 100_000

// layer is what one source of configuration says.
type layer struct {
	values   map[string]any // nested, each value of the type of its field
	at       map[string]mapping.Position
	texts    map[mapping.Position]string // values that stand there character for character
	problems []*mapping.Error
	misspelt map[string][]string // by path of a section, fields that unknown keys were meant for
}

func newLayer() *layer {
	return &layer{values: map[string]any{}, at: map[string]mapping.Position{}, texts: map[mapping.Position]string{}, misspelt: map[string][]string{}}
}

func (l *layer) fail(pos mapping.Position, msg, hint string) {
	l.problems = append(l.problems, &mapping.Error{Pos: pos, Msg: msg, Hint: hint})
}

// yamlReader checks a YAML tree against the fields and collects its values.
type yamlReader struct {
	*layer
	file  string
	lines []string
	nodes int
}

// readYAML reads a file's content.
func readYAML(file string, content []byte) *layer {
	r := &yamlReader{layer: newLayer(), file: file, lines: strings.Split(string(content), "\n")}
	dec := yaml.NewDecoder(bytes.NewReader(content))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return r.layer
	case err != nil:
		r.syntax(err)
		return r.layer
	}
	if err := dec.Decode(&more); err == nil {
		r.fail(r.pos(&more), "a second document", `a config is one document; remove the "---"`)
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
	}
	if len(doc.Content) == 1 {
		r.values = r.section(doc.Content[0], root, "")
	}
	return r.layer
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`)

// syntax reports an error of the YAML parser, which knows the line at best.
func (r *yamlReader) syntax(err error) {
	m := yamlLine.FindStringSubmatch(err.Error())
	pos := mapping.Position{File: r.file}
	pos.Line, _ = strconv.Atoi(m[1])
	hint := ""
	if strings.Contains(m[2], "cannot start any token") || strings.Contains(m[2], "mapping values are not allowed") || strings.Contains(m[2], "did not find expected") {
		hint = `check the indentation from here on, and put a value with { } [ ] : # or " in it into quotes`
	}
	r.fail(pos, "not valid YAML: "+m[2], hint)
}

func (r *yamlReader) pos(n *yaml.Node) mapping.Position {
	return mapping.Position{File: r.file, Line: n.Line, Column: n.Column}
}

// mark records where the value of a path stands.
func (r *yamlReader) mark(path string, n *yaml.Node) {
	pos := r.pos(n)
	r.at[path] = pos
	if n.Kind != yaml.ScalarNode || n.Line < 1 || n.Line > len(r.lines) {
		return
	}
	column := n.Column
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		column++
	}
	line := []rune(r.lines[n.Line-1])
	if column-1 <= len(line) && strings.HasPrefix(string(line[column-1:]), n.Value) {
		pos.Column = column
		r.at[path], r.texts[pos] = pos, n.Value
	}
}

// spend counts a node against the bound.
func (r *yamlReader) spend(n *yaml.Node) bool {
	if r.nodes++; r.nodes == maxNodes {
		r.fail(r.pos(n), "too many values, or aliases that multiply", "write them out")
	}
	return r.nodes < maxNodes
}

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// pair is a key of a mapping with its value.
type pair struct{ key, value *yaml.Node }

// section reads a mapping whose keys are the fields of f. The path is that of
// the values, with indexes; f.path is that of the keys in general.
func (r *yamlReader) section(n *yaml.Node, f *field, path string) map[string]any {
	values := map[string]any{}
	n = resolve(n)
	r.at[path] = r.pos(n)
	if !r.spend(n) || n.ShortTag() == "!!null" {
		return values
	}
	if n.Kind != yaml.MappingNode {
		what := "the config"
		if path != "" {
			what = path
		}
		r.fail(r.pos(n), what+" must be keys with values, not "+describeNode(n), "known keys: "+strings.Join(f.names(), ", "))
		return values
	}
	for _, p := range r.pairs(n, 0) {
		child := f.child(p.key.Value)
		if child == nil {
			r.unknown(p.key, f, path)
			continue
		}
		childPath := join(path, child.name)
		if v, ok := r.value(p.value, child, childPath); ok {
			values[child.name] = v
		}
	}
	return values
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// pairs returns the keys of a mapping with those that it merges in ("<<").
func (r *yamlReader) pairs(n *yaml.Node, depth int) []pair {
	var own, merged []pair
	first := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if !r.spend(key) {
			return nil
		}
		switch earlier := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			r.fail(r.pos(key), "a key must be a word, not "+describeNode(key), "")
		case key.ShortTag() == "!!merge":
			merged = append(merged, r.merge(value, depth)...)
		case earlier != nil:
			r.fail(r.pos(key), fmt.Sprintf("key %s again, first on line %d", brief(key.Value), earlier.Line), "keep one")
		default:
			first[key.Value] = key
			own = append(own, pair{key, value})
		}
	}
	for _, p := range merged {
		if first[p.key.Value] == nil {
			first[p.key.Value] = p.key
			own = append(own, p)
		}
	}
	return own
}

// merge returns the keys of what stands after "<<:".
func (r *yamlReader) merge(n *yaml.Node, depth int) []pair {
	pos := r.pos(n)
	n = resolve(n)
	switch {
	case depth > 10:
		r.fail(pos, "merges nested too deep", "write the keys out")
	case n.Kind == yaml.MappingNode:
		return r.pairs(n, depth+1)
	case n.Kind == yaml.SequenceNode:
		var all []pair
		for _, item := range n.Content {
			if r.spend(item) && resolve(item).Kind == yaml.MappingNode {
				all = append(all, r.pairs(resolve(item), depth+1)...)
			}
		}
		return all
	default:
		r.fail(pos, "<< must be followed by an alias of a mapping", "write the keys out")
	}
	return nil
}

// unknown reports a key that no field has.
func (r *yamlReader) unknown(key *yaml.Node, f *field, path string) {
	where := ""
	if path != "" {
		where = " in " + path
	}
	hint := suggest.DidYouMean(key.Value, f.names())
	if hint == "" {
		hint = "known keys: " + strings.Join(f.names(), ", ")
		for _, section := range root.fields {
			if section != f && section.child(key.Value) != nil {
				hint = "it belongs into " + section.name
				break
			}
		}
	}
	r.fail(r.pos(key), "unknown key "+brief(key.Value)+where, hint)
	r.misspelt[path] = append(r.misspelt[path], suggest.Closest(key.Value, f.names()))
}

// value reads the value of a field; it reports false if there is none to be used.
func (r *yamlReader) value(n *yaml.Node, f *field, path string) (any, bool) {
	n = resolve(n)
	r.mark(path, n)
	switch {
	case f.typ.Kind() == reflect.Struct:
		return r.section(n, f, path), true
	case f.typ.Kind() != reflect.Slice:
		return r.scalar(n, f, path)
	case n.ShortTag() == "!!null":
		return nil, false
	case n.Kind != yaml.SequenceNode:
		hint := `write [` + brief(n.Value) + `]`
		if f.typ != listType || n.Kind != yaml.ScalarNode {
			hint = "begin each item with a dash"
		}
		r.fail(r.pos(n), path+" must be a list, not "+describeNode(n), hint)
		return nil, false
	}
	list := []any{}
	for i, item := range n.Content {
		if !r.spend(item) {
			return nil, false
		}
		itemPath := path + "[" + strconv.Itoa(i) + "]"
		if f.typ != listType {
			list = append(list, r.section(item, f, itemPath))
			continue
		}
		item = resolve(item)
		r.mark(itemPath, item)
		if v, ok := r.scalar(item, &field{path: itemPath, typ: reflect.TypeFor[string]()}, itemPath); ok {
			list = append(list, v)
		} else {
			list = append(list, "") // keeps the indexes of the others
		}
	}
	return list, true
}

// scalar reads a single value.
func (r *yamlReader) scalar(n *yaml.Node, f *field, path string) (any, bool) {
	shown := *f
	shown.path = path
	tag := n.ShortTag()
	text := f.typ.Kind() == reflect.String
	switch {
	case n.Kind != yaml.ScalarNode:
		r.fail(r.pos(n), path+" must be a single value, not "+describeNode(n), "")
		return nil, false
	case tag == "!!null":
		r.fail(r.pos(n), path+" has no value", "write one, or remove the key")
		return nil, false
	case text && tag != "!!str":
		r.fail(r.pos(n), path+" must be a text, not "+describeNode(n), "put it in quotes: "+brief(n.Value))
		return nil, false
	case f.typ.Kind() == reflect.Bool && tag != "!!bool", f.typ.Kind() == reflect.Int && tag != "!!int":
		_, problem := shown.parse("")
		kind := "true or false"
		if f.typ.Kind() == reflect.Int {
			kind = "a whole number"
		}
		r.fail(r.pos(n), path+" must be "+kind+", not "+describeNode(n), problem.Hint)
		return nil, false
	}
	if !utf8.ValidString(n.Value) {
		r.fail(r.pos(n), path+" is not valid UTF-8 text", "")
		return nil, false
	}
	v, problem := shown.parse(n.Value)
	if problem != nil {
		problem.Pos = r.pos(n)
		r.problems = append(r.problems, problem)
	}
	return v, problem == nil
}

// describeNode says what a node is, for messages.
func describeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	switch tag := n.ShortTag(); tag {
	case "!!str":
		return "a text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!timestamp":
		return "a date"
	default:
		return "a value tagged " + tag
	}
}
