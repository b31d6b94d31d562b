package icache

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func drawEntry(t *rapid.T) entry {
	e := entry{
		version:    Version(rapid.Uint64().Draw(t, "version")),
		codec:      rapid.Byte().Draw(t, "codec"),
		compressor: rapid.Byte().Draw(t, "compressor"),
		checksum:   rapid.Bool().Draw(t, "checksum"),
		computed:   time.UnixMicro(rapid.Int64().Draw(t, "computed")),
		extra:      rapid.SliceOfNDistinct(rapid.String(), 0, 20, rapid.ID).Draw(t, "extra"),
		payload:    rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
	}
	if rapid.Bool().Draw(t, "expires") {
		e.expires = time.UnixMicro(rapid.Int64().Draw(t, "expires at"))
	}
	slices.Sort(e.extra)
	return e
}

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := drawEntry(t)
		prefix := rapid.SliceOf(rapid.Byte()).Draw(t, "prefix")
		b, err := e.append(bytes.Clone(prefix))
		require.NoError(t, err)
		require.Equal(t, prefix, b[:len(prefix)])
		got, err := parseEntry(b[len(prefix):], nil)
		require.NoError(t, err)
		require.Equal(t, e.version, got.version)
		require.Equal(t, e.codec, got.codec)
		require.Equal(t, e.compressor, got.compressor)
		require.True(t, e.computed.Equal(got.computed))
		require.True(t, e.expires.IsZero() == got.expires.IsZero() && (e.expires.IsZero() || e.expires.Equal(got.expires)))
		require.True(t, slices.Equal(e.extra, got.extra))
		require.True(t, bytes.Equal(e.payload, got.payload))
		require.Equal(t, versionBytes(e.version), b[len(prefix)+versionOffset:][:8])
	})
}

// With a checksum, a fragment that is changed anywhere, or cut, is none.
func TestChecksumFindsDamage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := drawEntry(t)
		e.checksum = true
		b, err := e.append(nil)
		require.NoError(t, err)
		damaged := bytes.Clone(b)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		damaged[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := parseEntry(damaged, nil); err == nil {
			require.Equal(t, 5, i, "only the flag itself can be taken away")
			require.False(t, got.checksum)
		}
		_, err = parseEntry(b[:i], nil)
		require.Error(t, err)
	})
}

func TestHeaderIsStrict(t *testing.T) {
	t.Parallel()
	valid, err := (&entry{version: 7, extra: []string{"a", "b"}, payload: []byte("x")}).append(nil)
	require.NoError(t, err)
	_, err = parseEntry(valid, nil)
	require.NoError(t, err)
	change := func(at int, b ...byte) []byte { return slices.Replace(bytes.Clone(valid), at, at+len(b), b...) }
	length := binary.BigEndian.Uint16(valid[6:])
	for name, b := range map[string][]byte{
		"empty": nil, "short": valid[:fixedHeader-1], "magic": change(0, 0), "format": change(2, 2), "unknown flag": change(5, 0x81),
		"header too long": change(6, 0xff, 0xff), "header too short": change(6, 0, 3), "bytes left over": change(6, 0, byte(length+1)),
		"too many tokens": change(24, 9), "no tokens": change(24, 0), "order": change(26, 'z'), "twice": change(26, 'b'),
		"long token": change(25, 200), "flag without tokens": change(5, 0), "flag without time": change(5, 5),
	} {
		_, err := parseEntry(b, nil)
		require.ErrorIs(t, err, errFormat, name)
	}
	_, err = (&entry{extra: []string{strings.Repeat("x", 1<<16)}}).append(nil)
	require.ErrorIs(t, err, errTooManyTokens)
}

// Whatever is under a fragment's key: no panic, and what parses is what append
// would have written.
func FuzzParseEntry(f *testing.F) {
	for _, e := range []entry{
		{}, {payload: []byte("x")}, {checksum: true, payload: []byte("x")}, {extra: []string{"a", "movie:42"}, expires: time.UnixMicro(5)},
	} {
		b, err := e.append(nil)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b, nil)
		if err != nil {
			return
		}
		again, err := e.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseEntry(again, nil)
		if err != nil || back.version != e.version || !slices.Equal(back.extra, e.extra) || !bytes.Equal(back.payload, e.payload) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
		if payload, err := new(fetchConfig).decompress(e.compressor, e.payload); err == nil && e.compressor == compressNone && !bytes.Equal(payload, e.payload) {
			t.Fatal("changed")
		}
	})
}

func TestCompression(t *testing.T) {
	t.Parallel()
	text := bytes.Repeat([]byte("<li>some HTML</li>"), 1000)
	noise := make([]byte, 20_000)
	for i := range noise {
		noise[i] = byte(i*i*7 + i*131 ^ i>>3*89)
	}
	for i := range noise { // no pattern for a compressor
		noise[i] ^= byte(uint64(i) * 0x9e3779b97f4a7c15 >> 56)
	}
	for name, tc := range map[string]struct {
		fc      fetchConfig
		payload []byte
		want    byte
	}{
		"small":    {fetchConfig{}, text[:1000], compressNone},
		"1 KiB":    {fetchConfig{}, text[:1024], compressS2},
		"4 KiB":    {fetchConfig{}, text[:4096], compressZstd},
		"empty":    {fetchConfig{compressSet: true, compressor: Zstd}, nil, compressNone},
		"off":      {fetchConfig{compressSet: true}, text, compressNone},
		"from 100": {fetchConfig{compressSet: true, compressor: S2, compressAt: 100}, text[:500], compressS2},
		"below":    {fetchConfig{compressSet: true, compressor: S2, compressAt: 100}, text[:99], compressNone},
		"own":      {fetchConfig{compressSet: true, compressor: reverser{}}, text, compressNone},
	} {
		out, id := tc.fc.compress(tc.payload)
		require.Equal(t, tc.want, id, name)
		back, err := tc.fc.decompress(id, out)
		require.NoError(t, err, name)
		require.Equal(t, string(tc.payload), string(back), name)
	}
	// Not worth it: stored as it is.
	half := append(bytes.Clone(noise[:1000]), text[:100]...)
	out, id := new(fetchConfig).compress(half)
	require.LessOrEqual(t, len(out), len(half))
	if id != compressNone {
		require.Less(t, len(out), len(half)*88/100+1)
	}
	own := fetchConfig{compressSet: true, compressor: reverser{}}
	back, err := own.decompress(200, []byte("cba"))
	require.NoError(t, err)
	require.Equal(t, "abc", string(back))
	for id := range 256 {
		if _, err := new(fetchConfig).decompress(byte(id), []byte("garbage")); err == nil {
			require.Equal(t, compressNone, id)
		}
	}
}

// reverser compresses badly.
type reverser struct{}

func (reverser) ID() byte { return 200 }

func (reverser) Append(dst, src []byte) []byte {
	src = bytes.Clone(src)
	slices.Reverse(src)
	return append(dst, src...)
}

func (r reverser) Decode(dst, src []byte) ([]byte, error) { return r.Append(dst, src), nil }

// Two versions of the library, or two configurations, on one Redis: misses,
// never a wrong payload.
func TestOtherVersionsOnOneRedis(t *testing.T) {
	t.Parallel()
	c, rdb := newCache(t)
	other := cacheOn(t, rdb, WithPrefix(c.cfg.prefix), WithDefaults(WithCodec(hexCodec{}), WithCompression(0, reverser{}), WithChecksum()))
	ctx := t.Context()
	type value struct{ A string }
	for i := range 3 {
		for _, c := range []*Cache{c, other} {
			want := value{strings.Repeat("x", i)}
			require.NoError(t, c.Incr(ctx, "a"))
			for range 2 {
				got, err := Fetch(ctx, c, "k", []string{"a"}, constant(want))
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		}
	}
	key := c.fragmentKey(c.FragmentKey("k", []string{"a"}))
	stored := rdb.Get(ctx, key).Val()
	future := []byte(stored)
	future[2] = 2
	require.NoError(t, rdb.Set(ctx, key, future, 0).Err())
	got, err := Fetch(ctx, c, "k", []string{"a"}, constant(value{"fresh"}))
	require.NoError(t, err)
	require.Equal(t, "fresh", got.A)
}

// hexCodec is a codec of an application.
type hexCodec struct{}

func (hexCodec) ID() byte                                 { return 100 }
func (hexCodec) Append(dst []byte, v any) ([]byte, error) { return JSON.Append(append(dst, '#'), v) }
func (hexCodec) Decode(src []byte, v any) error {
	if len(src) == 0 || src[0] != '#' {
		return errFormat
	}
	return JSON.Decode(src[1:], v)
}
