package mapping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// Keys returns, as JSON for [Change].Keys, what a trigger records for rows: the
// old and the new form of each row that changed. A row is a JSON object of
// columns, as to_jsonb makes it. It serves to try out rules without a database;
// Postgres may write the text of a number or of a JSON document otherwise.
// Sources whose column is not in a row are left out, and so unknown.
func (r *CompiledRule) Keys(rows ...[]byte) ([]byte, error) {
	keys := make([]map[string]any, 0, len(rows))
	for i, row := range rows {
		dec := json.NewDecoder(bytes.NewReader(row))
		dec.UseNumber()
		var columns map[string]any
		if err := dec.Decode(&columns); err != nil || columns == nil || dec.More() {
			return nil, fmt.Errorf("row %d is not a JSON object of columns: %w", i+1, orNotObject(err))
		}
		key := make(map[string]any, len(r.sources))
		for _, s := range r.sources {
			if column, ok := columns[s.column]; ok {
				key[s.name] = s.of(column)
			}
		}
		keys = append(keys, key)
	}
	b, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("encode keys: %w", err)
	}
	return b, nil
}

func orNotObject(err error) error {
	if err == nil {
		return fmt.Errorf("%w: expected one object", ErrKeys)
	}
	return err
}

// of returns the value of the source, given that of its column.
func (s Source) of(column any) any {
	switch s.kind {
	case KindElements:
		elements, ok := column.([]any)
		if !ok {
			return nil
		}
		texts := make([]any, len(elements))
		for i, e := range elements {
			texts[i] = s.finish(e)
		}
		return texts
	case KindJSON:
		for _, st := range s.path {
			column = st.of(column)
		}
	}
	return s.finish(column)
}

// finish turns a JSON value into the text that Postgres makes of it.
func (s Source) finish(v any) any {
	var text string
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = strconv.FormatBool(v)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return nil // what was decoded can be encoded
		}
		text = string(b)
	}
	if s.hashed {
		text = Hash(text)
	}
	return text
}

// of takes a step into a JSON value, nil where it leads nowhere.
func (st step) of(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if !st.isIndex {
			return v[st.key]
		}
	case []any:
		i := st.index
		if i < 0 {
			i += len(v)
		}
		if st.isIndex && i >= 0 && i < len(v) {
			return v[i]
		}
	}
	return nil
}
