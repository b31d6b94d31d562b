package icache

import (
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Compressor compresses payloads. Its ID is stored with the fragment; a
// fragment compressed otherwise is a miss. ID 0 is reserved for payloads
// stored as they are, IDs below 64 for this package.
type Compressor interface {
	ID() byte
	Append(dst, src []byte) []byte
	Decode(dst, src []byte) ([]byte, error)
}

var (
	// S2 is a faster Snappy. It takes a payload of 1 KiB apart in a fraction
	// of a microsecond, where Zstandard takes several.
	S2 Compressor = s2Compressor{}
	// Zstd is Zstandard at its fastest level.
	Zstd Compressor = zstdCompressor{}
)

const (
	compressNone = 0
	compressZstd = 1
	compressS2   = 2
	// By default S2 is used from s2From bytes and Zstandard from zstdFrom: a
	// hit costs about 30 µs, of which Zstandard's fixed cost would be 15 %.
	s2From   = 1 << 10
	zstdFrom = 4 << 10
	// maxPayload bounds what a compressed payload may unfold to.
	maxPayload = 256 << 20
)

type zstdCompressor struct{}

// One encoder and one decoder serve all goroutines: EncodeAll and DecodeAll
// keep a pool of their own with as many states as there are processors.
var (
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
		if err != nil {
			panic("icache: zstd encoder: " + err.Error()) // only for options that do not exist
		}
		return e
	})
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPayload))
		if err != nil {
			panic("icache: zstd decoder: " + err.Error())
		}
		return d
	})
)

func (zstdCompressor) ID() byte { return compressZstd }

func (zstdCompressor) Append(dst, src []byte) []byte { return zstdEncoder().EncodeAll(src, dst) }

func (zstdCompressor) Decode(dst, src []byte) ([]byte, error) {
	return zstdDecoder().DecodeAll(src, dst)
}

type s2Compressor struct{}

func (s2Compressor) ID() byte { return compressS2 }

func (s2Compressor) Append(dst, src []byte) []byte {
	return append(dst, s2.Encode(nil, src)...)
}

func (s2Compressor) Decode(dst, src []byte) ([]byte, error) {
	if n, err := s2.DecodedLen(src); err != nil || n > maxPayload {
		return nil, errFormat
	}
	return s2.Decode(dst, src)
}

// pick returns the compressor for a payload of n bytes, or nil.
func (c *fetchConfig) pick(n int) Compressor {
	switch {
	case n == 0:
		return nil
	case c.compressSet && n >= c.compressAt:
		return c.compressor
	case c.compressSet || n < s2From:
		return nil
	case n < zstdFrom:
		return S2
	}
	return Zstd
}

// compress returns the payload as it is stored and the id of the compressor.
func (c *fetchConfig) compress(payload []byte) ([]byte, byte) {
	comp := c.pick(len(payload))
	if comp == nil {
		return payload, compressNone
	}
	out := comp.Append(nil, payload)
	if len(out) > len(payload)-len(payload)*12/100 {
		return payload, compressNone
	}
	return out, comp.ID()
}

// decompress undoes compress. The result may be the argument.
func (c *fetchConfig) decompress(id byte, payload []byte) ([]byte, error) {
	switch {
	case id == compressNone:
		return payload, nil
	case c.compressor != nil && id == c.compressor.ID():
		return c.compressor.Decode(nil, payload)
	case id == compressS2:
		return S2.Decode(nil, payload)
	case id == compressZstd:
		return Zstd.Decode(nil, payload)
	}
	return nil, errFormat
}
