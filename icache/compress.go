package icache

import (
	"sync"

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

// Zstd is the default Compressor: Zstandard at its fastest level.
var Zstd Compressor = zstdCompressor{}

const (
	compressNone = 0
	compressZstd = 1
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

// compress returns the payload as it is stored and the id of the compressor.
func (c *fetchConfig) compress(payload []byte) ([]byte, byte) {
	if c.compressor == nil || len(payload) < c.compressAt || len(payload) == 0 {
		return payload, compressNone
	}
	out := c.compressor.Append(make([]byte, 0, len(payload)), payload)
	if len(out) > len(payload)-len(payload)*12/100 {
		return payload, compressNone
	}
	return out, c.compressor.ID()
}

// decompress undoes compress. The result may be the argument.
func (c *fetchConfig) decompress(id byte, payload []byte) ([]byte, error) {
	switch {
	case id == compressNone:
		return payload, nil
	case c.compressor != nil && id == c.compressor.ID():
		return c.compressor.Decode(nil, payload)
	case id == compressZstd:
		return Zstd.Decode(nil, payload)
	}
	return nil, errFormat
}
