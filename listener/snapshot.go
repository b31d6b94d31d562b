package listener

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A snapshot says which transactions have been dealt with: those below xmax
// that are not in xip. The text form is that of Postgres' type pg_snapshot.
type snapshot struct {
	xmax uint64
	xip  []uint64 // ascending, all below xmax
}

// nothing is a snapshot that has seen nothing: 3 is the first id that Postgres
// gives to a transaction.
var nothing = snapshot{xmax: 3}

func parseSnapshot(text string) (snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, fmt.Errorf("snapshot %q: want xmin:xmax:xip,…", text)
	}
	xmax, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return snapshot{}, fmt.Errorf("snapshot %q: %w", text, err)
	}
	s := snapshot{xmax: xmax}
	if parts[2] == "" {
		return s, nil
	}
	for x := range strings.SplitSeq(parts[2], ",") {
		id, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return snapshot{}, fmt.Errorf("snapshot %q: %w", text, err)
		}
		s.xip = append(s.xip, id)
	}
	return s, nil
}

// xmin is the first transaction that has not been dealt with.
func (s snapshot) xmin() uint64 {
	if len(s.xip) > 0 {
		return s.xip[0]
	}
	return s.xmax
}

func (s snapshot) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:%d:", s.xmin(), s.xmax)
	for i, x := range s.xip {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(x, 10))
	}
	return b.String()
}

// has reports whether transaction x has been dealt with.
func (s snapshot) has(x uint64) bool {
	if x >= s.xmax {
		return false
	}
	_, open := slices.BinarySearch(s.xip, x)
	return !open
}

func (s snapshot) equal(o snapshot) bool { return s.xmax == o.xmax && slices.Equal(s.xip, o.xip) }

// through returns the cursor that follows prev once those changes of the
// statement with snapshot now have been dealt with that belong to transactions
// up to and including last.
//
// A backlog is read in pieces, in the order of transaction ids, so a piece ends
// between two ids and not at a snapshot that ever existed. The cursor returned
// is exact all the same. Let m be the greater of prev.xmax and last+1, and take
// any transaction x:
//
//   - x ≥ m. Then x ≥ prev.xmax, and none of its changes was in the piece,
//     because x > last. It is above the cursor's xmax: not dealt with. Right.
//   - prev.xmax ≤ x < m. Then x ≤ last. If now saw it as open, its changes were
//     not in the piece; it is put into xip: not dealt with. Otherwise it had
//     ended, and its changes, if any, were in the piece: dealt with.
//   - x < prev.xmax, not in prev.xip: it was dealt with before and stays so. It
//     cannot be in now.xip, because what has ended stays ended.
//   - x in prev.xip. If it is open in now, or above last, its changes were not
//     in the piece; it is put into xip. Otherwise they were: dealt with.
//
// With last beyond every id in now (^uint64(0) stands for that), the result is
// now itself.
func (prev snapshot) through(now snapshot, last uint64) snapshot { //nolint:revive // named as in the proof
	if last >= now.xmax-1 && now.xmax >= prev.xmax {
		return now
	}
	m := max(prev.xmax, last+1)
	next := snapshot{xmax: m}
	for _, x := range now.xip {
		if x < m {
			next.xip = append(next.xip, x)
		}
	}
	for _, x := range prev.xip {
		if x > last && !slices.Contains(next.xip, x) {
			next.xip = append(next.xip, x)
		}
	}
	slices.Sort(next.xip)
	return next
}
