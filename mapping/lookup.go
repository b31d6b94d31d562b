package mapping

// Lookup is a foreign key that a template follows: {movie_id->movies.genre_id}
// in a rule for ratings reads, for the movie that ratings.movie_id names,
// movies.genre_id. Which column of movies the foreign key points to is for the
// resolver to find. Lookup is comparable.
type Lookup struct {
	Table     TableName // the table of the rule
	Column    string    // its column with the foreign key
	Ref       TableName // the table it points to; without a schema it is that of Table
	RefColumn string    // the column wanted from there
}

// LookupKey is one value to be looked up. It is comparable.
type LookupKey struct {
	Lookup Lookup
	Key    string // text form of a value of Lookup.Column
}

// Value is the text form of a column, or NULL.
type Value struct {
	Text string
	Null bool
}

// Resolver answers lookups, usually from values fetched for a whole batch of
// changes before: see [Mapper.AppendLookups]. It reports false for what it
// does not know, such as a row that is gone; then the template's fallback is
// used. A nil Resolver knows nothing.
type Resolver interface {
	Resolve(LookupKey) (Value, bool)
}

// Resolved is a [Resolver] made of values at hand.
type Resolved map[LookupKey]Value

// Resolve implements [Resolver].
func (r Resolved) Resolve(k LookupKey) (Value, bool) {
	v, ok := r[k]
	return v, ok
}
