package icachetempl

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/a-h/templ"
)

// state is what templ knows about the page being rendered.
type state struct {
	selecting bool   // templ.RenderFragments looks for a fragment and has not come to it
	emitted   string // hash of the CSS, scripts and once handles emitted so far; "" if none
	unknown   bool   // this version of templ keeps it in another way
}

// spy is a context that notes what templ asks it for and answers nothing, since
// templ's keys are not exported.
type spy struct {
	context.Context
	fragment *templ.FragmentContext
	page     any
}

func (s *spy) Value(key any) any {
	switch v := s.Context.Value(key).(type) {
	case nil:
	case *templ.FragmentContext:
		s.fragment = v
	default:
		if strings.HasSuffix(reflect.TypeOf(v).String(), "templ.contextValue") {
			s.page = v
		}
	}
	return nil
}

// inspect reads templ's state from ctx, which has been initialized.
func inspect(ctx context.Context) state {
	s := &spy{Context: ctx}
	// A fragment without children asks for both: whether fragments are being
	// selected, and for its children.
	_ = templ.Fragment(s).Render(s, io.Discard)
	var st state
	st.selecting = s.fragment != nil && !s.fragment.Active
	st.emitted, st.unknown = emitted(s.page)
	return st
}

// emitted hashes the fields of templ's page state that only ever grow.
func emitted(page any) (hash string, unknown bool) {
	if page == nil {
		return "", true
	}
	v := reflect.ValueOf(page).Elem()
	styles, handles := v.FieldByName("ss"), v.FieldByName("onceHandles")
	if styles.Kind() != reflect.Map || handles.Kind() != reflect.Map {
		return "", true
	}
	if styles.Len()+handles.Len() == 0 {
		return "", false
	}
	var items []string
	for _, key := range styles.MapKeys() {
		items = append(items, "s"+key.String())
	}
	for _, key := range handles.MapKeys() {
		id := key.Elem().FieldByName("id")
		if id.Kind() != reflect.Int64 {
			return "", true
		}
		// Handles are numbered in the order in which the program makes them.
		items = append(items, fmt.Sprint("o", id.Int()))
	}
	slices.Sort(items)
	sum := sha256.Sum256([]byte(strings.Join(items, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:16]), false
}
