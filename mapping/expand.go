package mapping

import (
	"fmt"
	"slices"
	"sync"
)

// Change is what a statement changed in one table.
type Change struct {
	Table string // canonical name, [TableName.String]
	Op    Op
	Keys  []byte // JSON as the outbox has it; nil means that the keys are unknown
}

// dynamic is a template with placeholders, ready to run.
type dynamic struct {
	segments []segment
	elements int    // index of the source whose elements are iterated, or -1
	fallback string // group token or Generation
}

// segment is a literal, and after it a value.
type segment struct {
	literal string
	source  int // index in CompiledRule.sources; -1 for none
	lookup  *Lookup
	hash    bool
}

// prepare derives what expansion needs from the templates.
func (r *CompiledRule) prepare() {
	for _, t := range r.Templates {
		if fb := t.Fallback(); !slices.Contains(r.fallback, fb) {
			r.fallback = append(r.fallback, fb)
		}
		if token, ok := t.Plain(); ok {
			r.plain = append(r.plain, token)
			continue
		}
		for _, l := range t.Lookups() {
			if !slices.Contains(r.lookups, l) {
				r.lookups = append(r.lookups, l)
			}
		}
		d := dynamic{elements: -1, fallback: t.Fallback()}
		seg := segment{}
		for _, p := range t.parts {
			if p.holder == nil {
				seg.literal = p.literal
				continue
			}
			seg.source = r.sourceIndex(p.holder.source)
			seg.lookup, seg.hash = p.holder.lookup, p.holder.hash
			if p.holder.source.kind == KindElements {
				d.elements = seg.source
			}
			d.segments = append(d.segments, seg)
			seg = segment{}
		}
		if seg.literal != "" {
			seg.source = -1
			d.segments = append(d.segments, seg)
		}
		r.dynamic = append(r.dynamic, d)
	}
}

// sourceIndex returns the place of a source among those of the rule, adding it if it is new.
func (r *CompiledRule) sourceIndex(s Source) int {
	i := slices.IndexFunc(r.sources, func(o Source) bool { return o.name == s.name })
	if i < 0 {
		i = len(r.sources)
		r.sources = append(r.sources, s)
	}
	return i
}

// AppendTokens appends the tokens that a change outdates to dst; a token may
// come more than once. A foreign key that a template follows counts as
// unknown; see [Mapper.AppendTokensWith].
//
// Errors wrap [ErrNoRule] or [ErrKeys]; dst is then returned as it came.
func (m *Mapper) AppendTokens(dst []string, c Change) ([]string, error) {
	return m.AppendTokensWith(dst, c, nil)
}

// AppendTokensWith is AppendTokens with a resolver for the foreign keys that
// templates follow.
func (m *Mapper) AppendTokensWith(dst []string, c Change, res Resolver) ([]string, error) {
	r := m.byName[c.Table]
	if r == nil {
		return dst, fmt.Errorf("%w %s", ErrNoRule, c.Table)
	}
	if !r.Covers(c.Op) {
		return dst, nil
	}
	if c.Keys == nil {
		return append(dst, r.fallback...), nil
	}
	e := expansions.Get().(*expansion)
	defer e.release()
	e.begin(r, c.Keys)
	e.out, e.res = append(dst, r.plain...), res
	unknown, err := e.keys(e.expand)
	switch {
	case err != nil:
		return dst, err
	case unknown:
		return append(dst, r.fallback...), nil
	}
	return e.out, nil
}

// AppendLookups appends what has to be looked up for a change to dst; a key
// may come more than once. Errors are those of [Mapper.AppendTokens].
//
// The one who applies changes collects the lookups of a batch, answers them
// with one query for each [Lookup], and hands the answers to
// [Mapper.AppendTokensWith].
func (m *Mapper) AppendLookups(dst []LookupKey, c Change) ([]LookupKey, error) {
	r := m.byName[c.Table]
	if r == nil {
		return dst, fmt.Errorf("%w %s", ErrNoRule, c.Table)
	}
	if len(r.lookups) == 0 || !r.Covers(c.Op) || c.Keys == nil {
		return dst, nil
	}
	e := expansions.Get().(*expansion)
	defer e.release()
	e.begin(r, c.Keys)
	out := dst
	_, err := e.keys(func() {
		for i := range r.dynamic {
			for _, seg := range r.dynamic[i].segments {
				if seg.lookup != nil && e.values[seg.source].state == isText {
					out = append(out, LookupKey{*seg.lookup, string(e.values[seg.source].text)})
				}
			}
		}
	})
	if err != nil {
		return dst, err
	}
	return out, nil
}

// The states of a value in a key.
const (
	isUnknown = iota // missing, or not of the form that the source has
	isNull
	isText
	isList
)

// value is that of a source in the key at hand.
type value struct {
	state    int
	text     []byte
	from, to int // of a list, in expansion.elements
}

// expansion is the working memory for one change.
type expansion struct {
	scanner
	rule     *CompiledRule
	res      Resolver
	out      []string
	values   []value
	elements [][]byte
	fellBack []bool   // by template: its fallback is out already
	last     []string // by template: the token of the key before
	buf      []byte   // tokens of the key at hand, one after another
	ends     []span
}

// span is a token in buf, which template it comes from.
type span struct{ template, end int }

var expansions = sync.Pool{New: func() any { return new(expansion) }}

func (e *expansion) begin(r *CompiledRule, keys []byte) {
	e.rule, e.data, e.i = r, keys, 0
	e.values = resize(e.values, len(r.sources))
	e.fellBack = resize(e.fellBack, len(r.dynamic))
	e.last = resize(e.last, len(r.dynamic))
}

// release forgets the change, so that the pool keeps nothing of it alive.
func (e *expansion) release() {
	e.rule, e.res, e.out, e.data = nil, nil, nil, nil
	clear(e.values)
	clear(e.elements[:cap(e.elements)])
	clear(e.last)
	if cap(e.text) > 1<<16 || cap(e.buf) > 1<<16 || cap(e.elements) > 1<<10 {
		e.text, e.buf, e.elements = nil, nil, nil
	}
	expansions.Put(e)
}

// resize returns a slice of n zero values.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// keys reads the keys and calls visit with the values of each in place. It
// reports whether the keys are JSON null, which says that they are unknown.
func (e *expansion) keys(visit func()) (unknown bool, err error) {
	switch e.next() {
	case 'n':
		err, unknown = e.word("null"), true
	case '[':
		err = e.list(func() error {
			if e.next() != '{' {
				return e.fail("an object")
			}
			clear(e.values)
			e.elements, e.text = e.elements[:0], e.text[:0]
			if err := e.object(e.member); err != nil {
				return err
			}
			visit()
			return nil
		})
	default:
		err = e.fail("an array of objects")
	}
	if err == nil && (e.next() != 0 || e.i < len(e.data)) {
		err = e.fail("the end")
	}
	return unknown, err
}

// member reads the value of a source; other members are stepped over.
func (e *expansion) member(name []byte) error {
	for i := range e.rule.sources {
		if src := &e.rule.sources[i]; src.name == string(name) {
			return e.value(&e.values[i], src.kind == KindElements)
		}
	}
	return e.skip(2)
}

func (e *expansion) value(v *value, list bool) (err error) {
	*v = value{}
	switch c := e.next(); {
	case c == '"' && !list:
		v.text, err = e.str()
		v.state = isText
	case c == 'n':
		err = e.word("null")
		v.state = isNull
	case c == '[' && list:
		v.state, v.from = isList, len(e.elements)
		if err = e.list(func() error { return e.element(v, 3) }); err == nil {
			v.to = len(e.elements)
			if v.to-v.from > e.rule.Rule.MaxKeys {
				v.state = isUnknown
			}
		}
	default:
		err = e.skip(2)
	}
	return err
}

// element reads an element of a list. Arrays of more dimensions are flattened.
func (e *expansion) element(v *value, depth int) error {
	switch e.next() {
	case '"':
		text, err := e.str()
		e.elements = append(e.elements, text)
		return err
	case 'n':
		return e.word("null")
	case '[':
		if depth < maxDepth {
			return e.list(func() error { return e.element(v, depth+1) })
		}
	}
	v.state = isUnknown
	return e.skip(depth)
}

// expand appends the tokens of the key at hand.
func (e *expansion) expand() {
	e.buf, e.ends = e.buf[:0], e.ends[:0]
	for i := range e.rule.dynamic {
		d := &e.rule.dynamic[i]
		if d.elements < 0 {
			e.token(i, d, nil)
			continue
		}
		list := &e.values[d.elements]
		if list.state != isList {
			e.token(i, d, nil)
			continue
		}
		for _, element := range e.elements[list.from:list.to] {
			e.token(i, d, element)
		}
	}
	if len(e.ends) == 0 {
		return
	}
	// One allocation for the tokens of a key, not more, or a token kept
	// somewhere would keep those of a whole statement alive.
	all, start := string(e.buf), 0
	for _, s := range e.ends {
		token := all[start:s.end]
		start = s.end
		e.last[s.template] = token
		e.out = append(e.out, token)
	}
}

// token adds the token that a template yields for the values at hand.
func (e *expansion) token(i int, d *dynamic, element []byte) {
	start, unknown := len(e.buf), false
	for s := range d.segments {
		seg := &d.segments[s]
		e.buf = append(e.buf, seg.literal...)
		if seg.source < 0 {
			continue
		}
		v := &e.values[seg.source]
		state := v.state
		switch {
		case state == isList:
			e.buf = append(e.buf, element...)
		case state == isText && seg.lookup == nil:
			e.buf = append(e.buf, v.text...)
		case state == isText:
			state = e.lookUp(seg, v.text)
		}
		switch state {
		case isNull:
			e.buf = e.buf[:start]
			return
		case isUnknown:
			unknown = true
		}
	}
	token := e.buf[start:]
	switch {
	case unknown:
		e.buf = e.buf[:start]
		if !e.fellBack[i] {
			e.fellBack[i] = true
			e.out = append(e.out, d.fallback)
		}
	case len(token) == 0, string(token) == e.last[i]:
		e.buf = e.buf[:start]
	case len(token) > MaxTokenLen:
		e.out = append(e.out, tooLong(token))
		e.buf = e.buf[:start]
	default:
		e.ends = append(e.ends, span{i, len(e.buf)})
	}
}

// lookUp appends the value that a foreign key leads to and returns its state.
func (e *expansion) lookUp(seg *segment, key []byte) int {
	if e.res == nil {
		return isUnknown
	}
	v, ok := e.res.Resolve(LookupKey{*seg.lookup, string(key)})
	switch {
	case !ok:
		return isUnknown
	case v.Null:
		return isNull
	case seg.hash:
		e.buf = appendHash(e.buf, v.Text)
	default:
		e.buf = append(e.buf, v.Text...)
	}
	return isText
}

// tooLong returns what is bumped in place of a token that is too long: its
// group, which readers of the token depend on too.
func tooLong(token []byte) string {
	for i := range min(len(token), MaxTokenLen-1) {
		if token[i] == ':' {
			return string(token[:i]) + ":*"
		}
	}
	return Generation
}
