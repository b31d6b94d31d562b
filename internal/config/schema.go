package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

const durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`

// Schema returns the JSON Schema of the file, for editors. A test keeps
// docs/icache.schema.json equal to it.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous:                  true,
		DoNotReference:             true,
		ExpandedStruct:             true,
		FieldNameTag:               "koanf",
		RequiredFromJSONSchemaTags: true,
		LookupComment:              comment,
		Mapper:                     scalarSchema,
	}
	s := r.Reflect(Config{})
	s.Title = "icache.yaml"
	s.Description = "Configuration of icache-agent."
	addDefaults(s, reflect.ValueOf(*Default()))
	tables, _ := s.Properties.Get("tables")
	tokens, _ := tables.Items.Properties.Get("tokens")
	tables.Items.Else = &jsonschema.Schema{Required: []string{"tokens"}}
	tables.Items.If = &jsonschema.Schema{Properties: jsonschema.NewProperties()}
	tables.Items.If.Properties.Set("table", &jsonschema.Schema{Pattern: `^[^"]*\*`})
	one := uint64(1)
	tokens.MinItems = &one
	maxKeys, _ := tables.Items.Properties.Get("max_keys")
	maxKeys.Minimum = "1"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	// encoding/json escapes for HTML; people read this file.
	b = []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b)))
	return append(b, '\n'), nil
}

// comment returns the description of a struct's field.
func comment(t reflect.Type, name string) string {
	if t.Kind() != reflect.Struct {
		return ""
	}
	if f, ok := t.FieldByName(name); ok {
		return f.Tag.Get("doc")
	}
	return ""
}

// scalarSchema describes the types that are written as texts.
func scalarSchema(t reflect.Type) *jsonschema.Schema {
	switch t {
	case durationType:
		return &jsonschema.Schema{Type: "string", Pattern: durationPattern, Examples: []any{"500ms", "2s", "1h30m"}}
	case settleType:
		return &jsonschema.Schema{Type: "string", Pattern: `^(replicas|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`, Examples: []any{"2s", settleReplicas}}
	case rateType:
		return &jsonschema.Schema{Type: "string", Pattern: rateText.String(), Examples: []any{"10/s", "300/min"}}
	case sizeType:
		return &jsonschema.Schema{Type: "string", Pattern: sizePattern, Examples: []any{"64kB", "256MB", "1GB"}}
	case urlType:
		return &jsonschema.Schema{Type: "string"}
	}
	return nil
}

// addDefaults writes the default of each setting into its schema.
func addDefaults(s *jsonschema.Schema, v reflect.Value) {
	for f, value := range v.Fields() {
		p, ok := s.Properties.Get(f.Tag.Get("koanf"))
		if !ok {
			continue
		}
		switch d := value.Interface().(type) {
		case time.Duration:
			p.Default = d.String()
		case Size:
			p.Default = d.String()
		case string:
			if d != "" {
				p.Default = d
			}
		default:
			if f.Type.Kind() == reflect.Struct {
				addDefaults(p, value)
			}
		}
	}
}
