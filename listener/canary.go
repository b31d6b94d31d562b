package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Canaries is a [Handler] that wants proof, again and again, that changes get
// through. The leader writes a row of its own, a canary, the way triggers do,
// and tells the handler when it has come out of the outbox.
//
// Canaries are not changes: they are not applied, and neither wake the listener
// nor move the saved cursor. An error of either method is logged and has no
// other effect than that this canary is as good as none.
type Canaries interface {
	Handler
	// Canary is called before a canary is sent, every [Config.Canary]. It returns
	// a text to send along.
	Canary(ctx context.Context) (note string, err error)
	// Arrived is called when a canary has come through, whoever sent it:
	// everything that was committed before it was sent has been applied and
	// flushed, and nothing is known to be missing. Canaries that were sent to an
	// earlier leader may arrive again.
	Arrived(ctx context.Context, note string) error
}

// canaries is what a leader knows of its canaries.
type canaries struct {
	next    time.Time // when to send one
	sent    time.Time // when the one was sent that is under way; zero if none is
	notes   []string  // of those that were read and wait to be told of
	trouble bool      // has been spoken of
}

const (
	// canaryLost is how many intervals a canary is waited for before another is sent.
	canaryLost = 10
	canaryWait = 3 * time.Second // for the handler
)

// canariesFly reports whether the leader sends canaries.
func (ld *leader) canariesFly() bool {
	_, ok := ld.l.cfg.Handler.(Canaries)
	return ok && ld.l.cfg.Canary > 0
}

// sendCanary sends one if it is time to. The next poll reads it, unless there
// is a backlog: then it stands in line behind all that was committed before it.
func (ld *leader) sendCanary(ctx context.Context, now time.Time) error {
	if !ld.canariesFly() || now.Before(ld.canary.next) || ctx.Err() != nil {
		return nil
	}
	every := ld.l.cfg.Canary
	ld.canary.next = now.Add(every)
	if ld.over != nil || !ld.canary.sent.IsZero() && now.Sub(ld.canary.sent) < canaryLost*every {
		return nil
	}
	var note string
	if err := ld.tell(ctx, func(ctx context.Context, h Canaries) (err error) { note, err = h.Canary(ctx); return err }); err != nil {
		return ld.canaryFailed(ctx, "prepare a canary", err)
	}
	text, err := json.Marshal([]string{note})
	if err != nil {
		return ld.canaryFailed(ctx, "prepare a canary", err)
	}
	n := ld.l.names
	wctx, cancel := context.WithTimeout(ld.work, ld.l.patience())
	defer cancel()
	if err := ld.exec(wctx, fmt.Sprintf(`SELECT %s(%s::regclass::oid, 'I', %s::jsonb)`,
		n.Ident("record"), literal(n.Meta()), literal(string(text)))); err != nil {
		if sqlState(err) == "" {
			return fmt.Errorf("send a canary: %w", err)
		}
		return ld.canaryFailed(ctx, "send a canary", err)
	}
	ld.canary.sent = now
	return nil
}

// takeCanaries removes the canaries from rows, and keeps their notes.
func (ld *leader) takeCanaries(b *batch, rows []row) []row {
	if !slices.ContainsFunc(rows, ld.isCanary) {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		if !ld.isCanary(r) {
			return false
		}
		var notes []string
		if json.Unmarshal(b.keys(r), &notes) == nil {
			ld.canary.notes = append(ld.canary.notes, notes...)
		}
		return true
	})
}

func (s *session) isCanary(r row) bool { return r.relation == s.canaryOID }

// arrived tells of the canaries that were read with a batch, once that has been
// flushed. While changes are known to have gone unrecorded there is no proof.
func (ld *leader) arrived(ctx context.Context) error {
	notes := ld.canary.notes
	if len(notes) == 0 {
		return nil
	}
	ld.canary.notes, ld.canary.sent = nil, time.Time{}
	if ld.over != nil || !ld.restoring.IsZero() || ctx.Err() != nil {
		return nil
	}
	if len(notes) > canaryLost { // of an absence: only the last ones can be news
		notes = notes[len(notes)-canaryLost:]
	}
	for _, note := range notes {
		if err := ld.tell(ctx, func(ctx context.Context, h Canaries) error { return h.Arrived(ctx, note) }); err != nil {
			return ld.canaryFailed(ctx, "tell of a canary", err)
		}
	}
	ld.canary.trouble = false
	return nil
}

// tell calls the handler, which may be no one for canaries, and keeps the
// session alive meanwhile.
func (ld *leader) tell(ctx context.Context, f func(context.Context, Canaries) error) error {
	h, ok := ld.l.cfg.Handler.(Canaries)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, canaryWait)
	defer cancel()
	return ld.during(ctx, func(ctx context.Context) error { return f(ctx, h) })
}

// canaryFailed passes on only that the connection is lost.
func (ld *leader) canaryFailed(ctx context.Context, doing string, err error) error {
	if _, lost := errors.AsType[*connError](err); lost {
		return err
	}
	if !ld.canary.trouble && ctx.Err() == nil {
		ld.canary.trouble = true
		ld.l.log.WarnContext(ctx, "listener: there is no proof that changes get through", "doing", doing, "error", err)
	}
	return nil
}

// findCanaries finds out by what relation canaries are known: one of icache's own.
func (s *session) findCanaries(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := s.conn.QueryRow(ctx, "SELECT "+literal(s.l.names.Meta())+"::regclass::oid").Scan(&s.canaryOID); err != nil {
		return fmt.Errorf("look up %s: %w", s.l.names.Meta(), err)
	}
	return nil
}
