package icacheproto_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/icache-go/icache-agent/icache"
	"github.com/icache-go/icache-agent/icache/icacheproto"
	"github.com/icache-go/icache-agent/icache/icachetest"
)

func TestAMessageComesBackFromRedis(t *testing.T) {
	t.Parallel()
	c := icachetest.New(t)
	want, err := structpb.NewStruct(map[string]any{"title": "Heat", "year": 1995.0})
	require.NoError(t, err)
	computed := 0
	for range 2 {
		got, err := icache.Fetch(t.Context(), c, "movie", []string{"movie:1"}, func(context.Context) (*structpb.Struct, error) {
			computed++
			return want, nil
		}, icache.WithCodec(icacheproto.Codec))
		require.NoError(t, err)
		require.True(t, proto.Equal(want, got), "%v", got)
	}
	require.Equal(t, 1, computed)
}

func TestWhatIsNoMessageIsAnError(t *testing.T) {
	t.Parallel()
	n := 7
	_, err := icacheproto.Codec.Append(nil, &n)
	require.ErrorContains(t, err, "*int is no protobuf message")
	require.ErrorContains(t, icacheproto.Codec.Decode(nil, &n), "*int is no protobuf message")
	require.ErrorContains(t, icacheproto.Codec.Decode(nil, n), "int is no protobuf message")
	var none *wrapperspb.StringValue
	_, err = icacheproto.Codec.Append(nil, &none)
	require.ErrorContains(t, err, "nil message")
}

func FuzzDecode(f *testing.F) {
	b, err := icacheproto.Codec.Append(nil, wrapperspb.String("Heat"))
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) {
		var m *structpb.Struct
		_ = icacheproto.Codec.Decode(b, &m) // whatever is in Redis, it must not panic
	})
}

func ExampleCodec() {
	b, _ := icacheproto.Codec.Append(nil, wrapperspb.String("Heat"))
	var m *wrapperspb.StringValue
	err := icacheproto.Codec.Decode(b, &m)
	fmt.Println(m.GetValue(), err)
	// Output: Heat <nil>
}
