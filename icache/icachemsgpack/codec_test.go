package icachemsgpack_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icachemsgpack"
	"github.com/icache-go/icache-agent/icache/icachetest"
)

type movie struct {
	Title string    `msgpack:"t"`
	Year  int       `msgpack:"y"`
	Cast  []string  `msgpack:"c"`
	Seen  time.Time `msgpack:"s"`
}

func TestAValueComesBackFromRedis(t *testing.T) {
	t.Parallel()
	c := icachetest.New(t)
	want := movie{"Heat", 1995, []string{"Al Pacino", "Robert De Niro"}, time.Unix(1_700_000_000, 0).UTC()}
	computed := 0
	for range 2 {
		got, err := icache.Fetch(t.Context(), c, "movie", []string{"movie:1"}, func(context.Context) (movie, error) {
			computed++
			return want, nil
		}, icache.WithCodec(icachemsgpack.Codec))
		require.NoError(t, err)
		got.Seen = got.Seen.UTC()
		require.Equal(t, want, got)
	}
	require.Equal(t, 1, computed)
}

func TestAnotherCodecIsAMiss(t *testing.T) {
	t.Parallel()
	c := icachetest.New(t)
	computed := 0
	for _, codec := range []icache.Codec{icache.JSON, icachemsgpack.Codec, icachemsgpack.Codec} {
		_, err := icache.Fetch(t.Context(), c, "movie", []string{"movie:1"}, func(context.Context) (movie, error) {
			computed++
			return movie{Title: "Heat"}, nil
		}, icache.WithCodec(codec))
		require.NoError(t, err)
	}
	require.Equal(t, 2, computed)
}

func FuzzDecode(f *testing.F) {
	b, err := icachemsgpack.Codec.Append(nil, movie{Title: "Heat", Cast: []string{"x"}})
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(_ *testing.T, b []byte) {
		var m movie
		_ = icachemsgpack.Codec.Decode(b, &m) // whatever is in Redis, it must not panic
	})
}

func ExampleCodec() {
	b, _ := icachemsgpack.Codec.Append(nil, map[string]int{"year": 1995})
	var m map[string]int
	err := icachemsgpack.Codec.Decode(b, &m)
	fmt.Println(len(b), m["year"], err)
	// Output: 9 1995 <nil>
}
