package icache

import (
	"encoding/json"
	"reflect"
	"unsafe"
)

// Codec encodes values. Its ID is stored with the fragment; a fragment written
// with another codec is a miss, never an error. IDs below 64 are reserved for
// this package.
type Codec interface {
	ID() byte
	Append(dst []byte, v any) ([]byte, error)
	Decode(src []byte, v any) error // v is a pointer; src must not be kept
}

// JSON is the default Codec. MessagePack and Protocol Buffers are in packages
// icachemsgpack and icacheproto, modules of their own.
var JSON Codec = jsonCodec{}

const (
	codecRaw  = 0
	codecJSON = 1
)

type jsonCodec struct{}

func (jsonCodec) ID() byte { return codecJSON }

func (jsonCodec) Append(dst []byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(dst, b...), err
}

func (jsonCodec) Decode(src []byte, v any) error { return json.Unmarshal(src, v) }

// rawKind says which values go straight through, without a codec.
type rawKind uint8

const (
	notRaw rawKind = iota
	rawBytes
	rawString
)

// rawKindOf looks at the type only: []byte, string, and types made from them
// such as template.HTML and json.RawMessage.
func rawKindOf[T any]() rawKind {
	t := reflect.TypeFor[T]()
	switch {
	case t.Kind() == reflect.String:
		return rawString
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return rawBytes
	}
	return notRaw
}

// encode returns the payload for v and the id of the codec.
func encode[T any](codec Codec, v *T) ([]byte, byte, error) {
	switch rawKindOf[T]() {
	case rawString:
		return []byte(reflect.ValueOf(v).Elem().String()), codecRaw, nil
	case rawBytes:
		return reflect.ValueOf(v).Elem().Bytes(), codecRaw, nil
	}
	b, err := codec.Append(nil, *v)
	return b, codec.ID(), err
}

// decode fills v from a payload. Only strings may share its memory: like them,
// a payload never changes.
func decode[T any](codec Codec, id byte, payload []byte, v *T) error {
	switch rawKindOf[T]() {
	case rawString:
		if id != codecRaw {
			return errFormat
		}
		*v = asString[T](text(payload))
		return nil
	case rawBytes:
		if id != codecRaw {
			return errFormat
		}
		reflect.ValueOf(v).Elem().SetBytes(append(make([]byte, 0, len(payload)), payload...))
		return nil
	}
	if id != codec.ID() {
		return errFormat
	}
	return codec.Decode(payload, v)
}

// readOnly returns the bytes of s, which must not be changed.
func readOnly(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// text returns b, which must not be changed any more, as a string.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// asString converts s to T, whose kind must be that of a string. Reflection
// would do the same and allocate.
func asString[T any](s string) T { return *(*T)(unsafe.Pointer(&s)) }
