// Package icachemsgpack stores values of package icache as MessagePack, which is
// smaller and faster to read than JSON:
//
//	movie, err := icache.Fetch(ctx, c, "movie", tokens, load, icache.WithCodec(icachemsgpack.Codec))
//
// Struct fields are named by the tag msgpack, else by their Go names; unknown
// fields are ignored when decoding. []byte and strings need no codec.
package icachemsgpack

import (
	"bytes"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/icache-go/icache-agent/icache"
)

// Codec encodes as MessagePack. It is safe for concurrent use.
var Codec icache.Codec = codec{}

// id is stored with every fragment; package icache reserves it for this codec.
const id = 2

type codec struct{}

func (codec) ID() byte { return id }

func (codec) Append(dst []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(buf)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (codec) Decode(src []byte, v any) error { return msgpack.Unmarshal(src, v) }
