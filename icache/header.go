package icache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// A stored fragment is one value: a header, the payload, and perhaps a
// checksum. All numbers are big-endian. docs/protocol.md has the same table.
//
//	 0  2  magic, 0xC1 'i'
//	 2  1  format, 1
//	 3  1  codec of the payload, 0 raw, 1 JSON
//	 4  1  compressor of the payload, 0 none, 1 Zstandard, 2 S2
//	 5  1  flags: 1 extra tokens, 2 checksum, 4 expires
//	 6  2  length of the header
//	 8  8  version
//	16  8  computed at, microseconds since 1970
//	[24 8  expires at, microseconds since 1970]
//	[      extra tokens: uvarint count, then for each uvarint length and text]
//	       payload
//	[   4  CRC-32C of everything before]
const (
	magic0, magic1 = 0xC1, 'i'
	format         = 1
	fixedHeader    = 24
	versionOffset  = 8

	flagExtra    = 1
	flagChecksum = 2
	flagExpires  = 4
	flagsKnown   = flagExtra | flagChecksum | flagExpires
)

var (
	errFormat = errors.New("icache: not a fragment of this format")
	// errTooManyTokens: the header has no room for the extra tokens.
	errTooManyTokens = errors.New("icache: too many extra tokens for a fragment's header")
	castagnoli       = crc32.MakeTable(crc32.Castagnoli)
)

// entry is a fragment, parsed or to be stored.
type entry struct {
	version    Version
	codec      byte
	compressor byte
	checksum   bool
	computed   time.Time
	expires    time.Time // zero: never
	extra      []string  // tokens found while computing, sorted, without static ones
	payload    []byte
}

func (e *entry) expired(now time.Time) bool { return !e.expires.IsZero() && !now.Before(e.expires) }

// append adds the stored form of e to dst.
func (e *entry) append(dst []byte) ([]byte, error) {
	start := len(dst)
	var flags byte
	if len(e.extra) > 0 {
		flags |= flagExtra
	}
	if e.checksum {
		flags |= flagChecksum
	}
	if !e.expires.IsZero() {
		flags |= flagExpires
	}
	dst = append(dst, magic0, magic1, format, e.codec, e.compressor, flags, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.version))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.computed.UnixMicro()))
	if flags&flagExpires != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(e.expires.UnixMicro()))
	}
	if flags&flagExtra != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(e.extra)))
		for _, t := range e.extra {
			dst = binary.AppendUvarint(dst, uint64(len(t)))
			dst = append(dst, t...)
		}
	}
	n := len(dst) - start
	if n > math.MaxUint16 {
		return nil, errTooManyTokens
	}
	binary.BigEndian.PutUint16(dst[start+6:], uint16(n))
	dst = append(dst, e.payload...)
	if e.checksum {
		dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	}
	return dst, nil
}

// parseEntry reads a stored fragment strictly: whatever it does not know in
// every detail is an error, and so a miss. The payload is still compressed and
// a part of b. known are the extra tokens it is likely to have, whose memory it
// uses then.
func parseEntry(b []byte, known []string) (entry, error) {
	var e entry
	if len(b) < fixedHeader || b[0] != magic0 || b[1] != magic1 || b[2] != format || b[5]&^flagsKnown != 0 {
		return e, errFormat
	}
	flags := b[5]
	n := int(binary.BigEndian.Uint16(b[6:]))
	if n < fixedHeader || n > len(b) {
		return e, errFormat
	}
	if flags&flagChecksum != 0 {
		end := len(b) - 4
		if end < n || binary.BigEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
			return e, errFormat
		}
		b, e.checksum = b[:end], true
	}
	e.codec, e.compressor = b[3], b[4]
	e.version = Version(binary.BigEndian.Uint64(b[versionOffset:]))
	e.computed = time.UnixMicro(int64(binary.BigEndian.Uint64(b[16:])))
	rest := b[fixedHeader:n]
	if flags&flagExpires != 0 {
		if len(rest) < 8 {
			return e, errFormat
		}
		e.expires = time.UnixMicro(int64(binary.BigEndian.Uint64(rest)))
		rest = rest[8:]
	}
	if flags&flagExtra != 0 {
		var err error
		if e.extra, rest, err = parseTokens(rest, known); err != nil {
			return e, err
		}
	}
	if len(rest) != 0 {
		return e, errFormat
	}
	e.payload = b[n:]
	return e, nil
}

func parseTokens(b []byte, known []string) (tokens []string, rest []byte, err error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count == 0 || count > uint64(len(b)) {
		return nil, nil, errFormat
	}
	b = b[n:]
	if uint64(len(known)) == count {
		tokens = known
	} else {
		tokens, known = make([]string, count), nil
	}
	for i := range tokens {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, nil, errFormat
		}
		b = b[n:]
		if known == nil {
			tokens[i] = string(b[:size])
		} else if known[i] != string(b[:size]) {
			tokens, known = append(make([]string, 0, count), known[:i]...)[:count], nil
			tokens[i] = string(b[:size])
		}
		b = b[size:]
		if i > 0 && tokens[i-1] >= tokens[i] {
			return nil, nil, errFormat
		}
	}
	return tokens, b, nil
}

// versionBytes is the version as it stands in the header.
func versionBytes(v Version) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
