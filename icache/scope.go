package icache

import "context"

// scope is what a context carries for this package: one value, so that a Fetch
// looks through the context once.
type scope struct {
	col    *collector // of the fragment that is being computed
	pin    *pinned
	ahead  *ahead // ReadAhead
	bypass bool
}

type scopeKey struct{}

func scopeOf(ctx context.Context) scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	if s == nil {
		return scope{}
	}
	return *s
}

func (s scope) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, &s)
}

func withCollector(ctx context.Context, col *collector) context.Context {
	s := scopeOf(ctx)
	s.col = col
	s.ahead = s.ahead.inner()
	return s.with(ctx)
}

// Bypass returns a context under which Fetch neither reads nor stores. Use it
// for everything inside a database transaction that has written, and with a
// snapshot that is older than the Fetch (REPEATABLE READ): what is read there
// is not, or not yet, what everybody may see.
func Bypass(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.bypass = true
	return s.with(ctx)
}
