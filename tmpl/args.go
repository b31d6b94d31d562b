package tmpl

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// Key is an argument of a fragment that is no token: it tells entries apart and
// is never incremented. [Vary] makes one.
type Key struct{ values []any }

// Vary marks values as arguments that are no tokens: a language, a page number,
// whether somebody is logged in. In a template it is (vary .Lang).
func Vary(values ...any) Key { return Key{values} }

// ArgError reports an argument that cannot be a token.
type ArgError struct {
	Fragment string // as far as it is known
	Index    int    // from 1; the name of the fragment is argument 1
	Reason   string
}

func (e *ArgError) Error() string {
	return fmt.Sprintf("fragment %q: argument %d %s", e.Fragment, e.Index, e.Reason)
}

// identity is what tells an entry from others of the same name.
type identity struct {
	tokens []string // the name first
	text   string   // all arguments, in order, and the digest
}

// The kinds of arguments in an identity's text.
const (
	kindDigest = 'd'
	kindToken  = 't'
	kindVary   = 'v'
)

// identify turns the arguments of a fragment into its tokens and identity. Each
// argument is written with its kind and length, so that ("a", "b") and ("ab")
// differ. Tokens are in the text as well: for the cache they are a set, but
// (user 1, user 2) and (user 2, user 1) are two entries.
func identify(name, digest string, args []any) (identity, error) {
	if name == "" {
		return identity{}, &ArgError{Fragment: name, Index: 1, Reason: "is empty: a fragment needs a name"}
	}
	id := identity{tokens: make([]string, 1, 1+len(args))}
	id.tokens[0] = name
	var space [256]byte
	text := appendArg(space[:0], kindDigest, digest)
	for i, arg := range args {
		if key, ok := arg.(Key); ok {
			for j, v := range key.values {
				s, err := argString(v)
				if err != nil {
					return identity{}, &ArgError{name, i + 2, fmt.Sprintf("value %d %v", j+1, err)}
				}
				text = appendArg(text, kindVary, s)
			}
			continue
		}
		s, err := argString(arg)
		if err == nil && s == "" {
			err = errors.New("is empty: a token needs a name (what is no token goes into vary)")
		}
		if err != nil {
			return identity{}, &ArgError{name, i + 2, err.Error()}
		}
		text = appendArg(text, kindToken, s)
		id.tokens = append(id.tokens, s)
	}
	id.text = string(text)
	return id, nil
}

func appendArg(dst []byte, kind byte, s string) []byte {
	dst = append(dst, kind)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// argString is the text form of an argument: strings as they are, numbers in
// decimal, otherwise what its MarshalText or String says.
func argString(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errors.New("is nil")
	case string:
		return v, nil
	case int:
		return strconv.Itoa(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer && rv.IsNil() {
		return "", fmt.Errorf("is a nil %s", rv.Type())
	}
	switch v := v.(type) {
	// Before String: the String of a time.Time tells the monotonic clock.
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		if err != nil {
			return "", fmt.Errorf("(%T): %w", v, err)
		}
		return string(b), nil
	case fmt.Stringer:
		return v.String(), nil
	}
	switch rv.Kind() {
	case reflect.Pointer, reflect.Interface:
		return argString(rv.Elem().Interface())
	case reflect.String:
		return rv.String(), nil
	case reflect.Bool:
		return strconv.FormatBool(rv.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(rv.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.FormatUint(rv.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(rv.Float(), 'g', -1, rv.Type().Bits()), nil
	}
	return "", fmt.Errorf("is a %T: want a string, a number, or a type with String or MarshalText", v)
}
