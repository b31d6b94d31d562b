package tmpl

import (
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type (
	stringType string
	intType    int
	stringer   struct{ s string }
	both       struct{}
)

func (s *stringer) String() string             { return s.s }
func (both) String() string                    { return "string" }
func (both) MarshalText() ([]byte, error)      { return []byte("text"), nil }
func (k badText) MarshalText() ([]byte, error) { return nil, errBad }

type badText struct{}

var errBad = errors.New("bad")

func TestArgString(t *testing.T) {
	t.Parallel()
	n, s := 5, "s"
	ps := &s
	for _, tt := range []struct {
		arg  any
		want string
	}{
		{"a b:{c}", "a b:{c}"}, {stringType("x"), "x"}, {"", ""},
		{5, "5"}, {int8(-5), "-5"}, {int64(1) << 60, "1152921504606846976"}, {intType(7), "7"},
		{uint(5), "5"}, {uint64(1<<64 - 1), "18446744073709551615"},
		{1.5, "1.5"}, {float32(0.1), "0.1"}, {1e100, "1e+100"}, {true, "true"},
		{&n, "5"}, {&ps, "s"}, {&stringer{"via"}, "via"}, {both{}, "text"}, {&both{}, "text"},
		{big.NewInt(12), "12"}, {netip.MustParseAddr("::1"), "::1"},
		{time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), "2026-01-02T03:04:05.000000006Z"},
		{time.Second, "1s"},
	} {
		got, err := argString(tt.arg)
		require.NoError(t, err, "%T", tt.arg)
		require.Equal(t, tt.want, got, "%T", tt.arg)
	}
	for _, arg := range []any{nil, (*int)(nil), (*stringer)(nil), struct{}{}, []int{1}, map[string]int{}, func() {}, stringer{"needs a pointer"}, badText{}, []byte("x")} {
		_, err := argString(arg)
		require.Error(t, err, "%T", arg)
	}
}

// TestIdentityIsUnambiguous: two lists of arguments have the same identity only
// if they are the same list.
func TestIdentityIsUnambiguous(t *testing.T) {
	t.Parallel()
	value := rapid.StringOfN(rapid.RuneFrom([]rune("ab:,tvd\x00\x01")), 1, 4, -1)
	args := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) any {
		if rapid.Bool().Draw(t, "vary") {
			return Vary(value.Draw(t, "value"))
		}
		return value.Draw(t, "token")
	}), 0, 4)
	describe := func(args []any) string {
		var b strings.Builder
		for _, a := range args {
			switch a := a.(type) {
			case Key:
				b.WriteString("|vary " + a.values[0].(string))
			case string:
				b.WriteString("|token " + a)
			}
		}
		return b.String()
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := args.Draw(t, "a"), args.Draw(t, "b")
		x, err := identify("n", "digest", a)
		require.NoError(t, err)
		y, err := identify("n", "digest", b)
		require.NoError(t, err)
		require.Equal(t, describe(a) == describe(b), x.text == y.text, "%q %q", a, b)
	})
}

func TestVaryTakesSeveral(t *testing.T) {
	t.Parallel()
	a, err := identify("n", "", []any{Vary("x", "y")})
	require.NoError(t, err)
	b, err := identify("n", "", []any{Vary("x"), Vary("y")})
	require.NoError(t, err)
	require.Equal(t, a, b)
	require.Equal(t, []string{"n"}, a.tokens)
}
