// Package icacheproto stores values of package icache in the wire format of
// Protocol Buffers. The type that is fetched is the pointer to the message:
//
//	movie, err := icache.Fetch(ctx, c, "movie", tokens,
//		func(ctx context.Context) (*pb.Movie, error) { return load(ctx, 42) },
//		icache.WithCodec(icacheproto.Codec))
package icacheproto

import (
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/icache-go/icache-agent/icache"
)

// Codec encodes messages. It is safe for concurrent use.
var Codec icache.Codec = codec{}

// id is stored with every fragment; package icache reserves it for this codec.
const id = 3

var errNil = errors.New("icacheproto: a nil message cannot be stored; return an empty one, or an error")

type codec struct{}

func (codec) ID() byte { return id }

// Append takes a message, or the pointer to a variable that holds one.
func (codec) Append(dst []byte, v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		p := reflect.ValueOf(v)
		if p.Kind() == reflect.Pointer && !p.IsNil() {
			m, ok = reflect.TypeAssert[proto.Message](p.Elem())
		}
		if !ok {
			return nil, notMessage(v)
		}
	}
	if !m.ProtoReflect().IsValid() {
		return nil, errNil
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

// Decode takes the pointer to a variable of a message type, which it sets to a new message.
func (codec) Decode(src []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return notMessage(v)
	}
	if p.Elem().Kind() == reflect.Pointer {
		fresh := reflect.New(p.Elem().Type().Elem())
		if m, ok := reflect.TypeAssert[proto.Message](fresh); ok {
			if err := proto.Unmarshal(src, m); err != nil {
				return err
			}
			p.Elem().Set(fresh)
			return nil
		}
	}
	if m, ok := v.(proto.Message); ok {
		return proto.Unmarshal(src, m)
	}
	return notMessage(v)
}

func notMessage(v any) error {
	return fmt.Errorf("icacheproto: %T is no protobuf message; fetch the pointer to a generated type", v)
}
