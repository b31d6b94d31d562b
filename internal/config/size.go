package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written with a unit as Postgres writes it: 64kB,
// 256MB, 1GB, in steps of 1024. KiB, MiB and GiB are the same.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

const sizePattern = `^[0-9]+(\.[0-9]+)? ?([kKMGT]i?)?B$`

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "kKMGTiB ")
	unit := strings.TrimSpace(s[len(digits):])
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	for _, u := range sizeUnits {
		if strings.EqualFold(u.name, strings.Replace(unit, "i", "", 1)) {
			if n *= float64(u.bytes); n >= math.MaxInt64 {
				return 0, fmt.Errorf("%q is too large", s)
			}
			return Size(n), nil
		}
	}
	return 0, fmt.Errorf("%q is a size without a unit", s)
}

// String returns the size with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// MarshalText implements [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
