// Package latest decides which event of a worker wins, what AtHoc should be sent, and what becomes of a row. All of it
// is pure: no clock, no store, no broker.
package latest

import (
	"time"

	"bobosync/shared/event"
)

// Event is the booking that a worker's status comes from.
type Event struct {
	Version event.Version `cbor:"1,keyasint"`
	// File is the file that holds the booking.
	File string `cbor:"2,keyasint"`
	On   bool   `cbor:"3,keyasint,omitempty"`
	// At is the event's time in Unix seconds.
	At int64 `cbor:"4,keyasint"`
	// Feed is the feed that the file came from; empty if it is that of CSV_DIRECTORY, or if it is not known.
	Feed string `cbor:"5,keyasint,omitempty"`
}

// sameRow reports whether two events are the same booking. The order of reading is left out: it can change when
// ingest's ledger is lost, and a row must not supersede itself.
func (e Event) sameRow(f Event) bool { return e.File == f.File && e.Version.Row == f.Version.Row }

// want returns what AtHoc should be sent for the user of a worker whose latest event is e. Stale duty is sent as off
// duty.
func (e Event) want(user string, stale bool) Sent {
	return Sent{User: user, File: e.File, Version: e.Version, On: e.On && !stale, At: e.At}
}

// Sent is the last update that was published for a worker.
type Sent struct {
	User    string        `cbor:"1,keyasint"`
	File    string        `cbor:"2,keyasint,omitempty"`
	Version event.Version `cbor:"3,keyasint"`
	On      bool          `cbor:"4,keyasint,omitempty"`
	At      int64         `cbor:"5,keyasint"`
}

// update returns the update that sends s. keep says that a person wants the duty to stay; it is ignored if s is off
// duty.
func (s Sent) update(employee string, reason event.Reason, keep bool) *event.Update {
	return &event.Update{
		User: s.User, Employee: employee, On: s.On, At: s.At, Version: s.Version, File: s.File, Reason: reason, Keep: s.On && keep,
	}
}

// Confirmed is AtHoc's last answer for a worker.
type Confirmed struct {
	Sent
	Outcome event.Outcome `cbor:"6,keyasint"`
	// Answered is when AtHoc answered, in Unix seconds.
	Answered int64 `cbor:"7,keyasint"`
}

// Worker is the stored record of a worker. The zero value is a worker who was never seen. The numbers in the tags are
// the keys of the stored record (CBOR, RFC 8949): never change or reuse one.
type Worker struct {
	Latest Event `cbor:"1,keyasint"`
	// Open: the latest event's row awaits its outcome.
	Open bool `cbor:"2,keyasint,omitempty"`
	// Unresolved: it has not been decided yet what follows from the latest event.
	Unresolved bool `cbor:"3,keyasint,omitempty"`
	// Unmapped: no AtHoc user had the worker's employee id at the last lookup.
	Unmapped bool  `cbor:"4,keyasint,omitempty"`
	Sent     *Sent `cbor:"5,keyasint,omitempty"`
	// Sending: the update was being published when the worker was last saved; it may be out.
	Sending   bool       `cbor:"9,keyasint,omitempty"`
	Confirmed *Confirmed `cbor:"6,keyasint,omitempty"`
	// Replay names the replay that still has to send this worker's status again.
	Replay string `cbor:"7,keyasint,omitempty"`
	// InDoubt, if not 0, is until when (in Unix seconds) AtHoc may still apply an update whose call got no answer.
	InDoubt int64 `cbor:"8,keyasint,omitempty"`

	// Hold: the latest event is part of a mass change that waits for a person; the worker stays unresolved all that
	// time. Passed: a person has let the latest event through. See held.go.
	Hold   *Hold `cbor:"10,keyasint,omitempty"`
	Passed bool  `cbor:"11,keyasint,omitempty"`
	// Prior is the event that counts if a person rejects the latest one, while that is unresolved; see runnerUp.
	Prior *Event `cbor:"12,keyasint,omitempty"`
	// Withheld is the event that a person rejected last; it links to earlier ones.
	Withheld *Withheld `cbor:"13,keyasint,omitempty"`
	// Reread, if not 0, is when the broker stored the entry with which the latest event's row was read again (in Unix
	// nanoseconds).
	Reread int64 `cbor:"14,keyasint,omitempty"`
}

// Known reports whether the worker was seen before.
func (w *Worker) Known() bool { return w.Latest.File != "" }

// Stranger reports whether nothing but the latest event is known of the worker, and no AtHoc user was found for the
// worker: such workers may be invented.
func (w *Worker) Stranger() bool {
	return w.Unmapped && !w.Unresolved && !w.Open && w.Sent == nil && w.Confirmed == nil && w.InDoubt == 0 && w.Replay == "" &&
		w.Withheld == nil
}

// Disposition is what Take made of an event.
type Disposition int

const (
	// Newer: the event is the worker's latest now.
	Newer Disposition = iota
	// Older: a newer event has won already.
	Older
	// Repeated: it is the worker's latest event, read again.
	Repeated
)

// Take compares an event with the worker's latest one, and makes it the latest unless it is older. settled means that
// nobody awaits the outcome of the event's row. If the event is newer and the row of the previous one still awaited its
// outcome, that previous event is returned: its row is superseded.
func (w *Worker) Take(e Event, settled bool) (disposition Disposition, superseded *Event) {
	switch {
	case w.Known() && w.Latest.sameRow(e):
		// A state store that was rebuilt from the table of updates knows only what was sent, and stale duty was sent as
		// off duty.
		w.Latest.On, w.Latest.At, w.Latest.Feed = e.On, e.At, e.Feed
		w.Open, w.Unresolved = !settled, true
		return Repeated, nil
	case w.Known() && e.Version.Compare(w.Latest.Version) < 0:
		if w.Unresolved {
			w.runnerUp(e, w.Latest)
		}
		return Older, nil
	}

	before := w.Latest
	if w.Open {
		superseded = &before
	}

	if w.Known() && !(w.Open && w.Unresolved) {
		w.Prior = &before
	} else if w.Known() && w.Hold == nil {
		w.runnerUp(before, e)
	}

	w.Hold, w.Passed = nil, false
	w.Latest, w.Open, w.Unresolved, w.Reread = e, !settled, true, 0

	return Newer, superseded
}

// ReadAgain notes when the broker stored the entry with which the latest event's row was read again (Take returned
// Repeated). An answer that was stored before does not settle the row: whoever reads it again may have lost that
// answer.
func (w *Worker) ReadAgain(stored time.Time) { w.Reread = stored.UnixNano() }

// Rules are the settings that decisions depend on.
type Rules struct {
	// Lifetime is the age after which duty is stale; 0 means never.
	Lifetime time.Duration
	// Lateness is how long AtHoc may go on working on a call that was given up.
	Lateness time.Duration
}

// Stale reports whether duty that began at the given Unix second is too old to be shown.
func (r Rules) Stale(on bool, at int64, now time.Time) bool {
	return on && r.Lifetime > 0 && now.Sub(time.Unix(at, 0)) > r.Lifetime
}

// StaleBefore returns the Unix second before which duty must have begun to be stale; 0 if duty never becomes stale.
func (r Rules) StaleBefore(now time.Time) int64 {
	if r.Lifetime == 0 {
		return 0
	}
	return now.Add(-r.Lifetime).Unix()
}

// Resolve decides what follows from the worker's latest event, for the user that the worker is mapped to ("" if none).
// It returns the update to publish, or nil, and the outcome of the latest row: Pending if AtHoc's answer decides it.
// Afterwards w records what was decided. The outcome should be reported only if the row was Open before.
func (w *Worker) Resolve(employee, user string, reason event.Reason, now time.Time, rules Rules) (*event.Update, event.Outcome) {
	stale, passed := w.stale(now, rules), w.Passed
	w.Unmapped, w.Unresolved = user == "", false
	w.Hold, w.Passed, w.Prior = nil, false, nil
	if w.Unmapped {
		w.Open = false
		return nil, event.Unmapped
	}

	out := !w.Sending
	w.Sending = false
	want := w.Latest.want(user, stale)
	if outcome, known := w.known(want); known {
		w.Open = false

		if stale {
			outcome = event.Expired
		}

		return nil, outcome
	}

	outcome := event.Pending
	if !w.Open && out && w.Sent != nil && *w.Sent == want && reason != event.ReasonRecovery {
		return nil, outcome // it was published, and nobody awaits an outcome
	}

	if stale {
		// The row is settled at once. The clear is sent only if AtHoc was ever sent something for this worker: clearing
		// a value from before our time is the janitor's business. If the event was Passed, the janitor has asked for
		// this clear, and it is sent.
		w.Open, outcome = false, event.Expired
		if w.Sent == nil && !passed {
			return nil, outcome
		}
	}

	return w.send(employee, want, reason), outcome
}

// Intent returns the worker as it is saved before an update is published. before is the worker until then, after the
// worker once the update is published. If publishing fails, or the process ends in between, the worker is resolved
// again, and what AtHoc confirmed earlier does not count as what it holds.
func Intent(before, after Worker) Worker {
	after.Open, after.Unresolved, after.Sending = before.Open, true, true
	return after
}

// Again returns the update that resends the worker's status, whatever AtHoc is known to hold; nil if there is nothing
// to send, or no user to send it to.
func (w *Worker) Again(employee, user string, reason event.Reason, now time.Time, rules Rules) *event.Update {
	w.Replay = ""
	if user == "" || !w.Known() {
		return nil
	}

	return w.send(employee, w.Latest.want(user, w.stale(now, rules)), reason)
}

func (w *Worker) send(employee string, want Sent, reason event.Reason) *event.Update {
	if c := w.Confirmed; c != nil && c.Version == want.Version && c.User == want.User {
		w.Confirmed = nil // it answers an earlier update with the same event; now the answer to this one is awaited
	}

	w.Sent, w.Sending, w.Replay = &want, false, "" // whatever is sent now, a replay need not send it again

	return want.update(employee, reason, w.Kept())
}

// known returns the outcome of want if AtHoc's last answer already decides it, and reports whether it does.
func (w *Worker) known(want Sent) (event.Outcome, bool) {
	c := w.Confirmed
	if c == nil || w.Sent == nil || c.Version != w.Sent.Version || c.User != want.User || w.Sent.User != want.User {
		return event.Pending, false // nothing confirmed, or something else is on its way
	}

	if c.Version == want.Version && c.On == want.On {
		return c.Outcome, true
	}

	held := c.Outcome == event.Applied || c.Outcome == event.Expired
	same := c.On == want.On && (!c.On || c.At == want.At)

	return event.Applied, held && same
}

// Answer records AtHoc's answer to an update; stored is when the broker stored the answer. It returns false if the
// answer changes nothing.
func (w *Worker) Answer(a event.Answer, stored time.Time, rules Rules) bool {
	if a.Outcome == event.Pending {
		w.InDoubt = max(w.InDoubt, time.Unix(a.Answered, 0).Add(rules.Lateness).Unix())
		return true
	}

	// An answer that says off duty can belong to an update that says on duty, if that became stale on its way. An
	// answer that says on duty to an update that says off duty is a late one.
	if w.Sent == nil || w.Sent.Version != a.Version || w.Sent.User != a.User || a.On && !w.Sent.On {
		return false // the answer to an update that a later one has superseded
	}

	if w.Sending {
		return false // it may predate the reason for publishing again, such as that another worker had the user meanwhile
	}

	w.Confirmed = &Confirmed{
		Sent:    Sent{User: a.User, File: a.File, Version: a.Version, On: a.On, At: a.At},
		Outcome: a.Outcome, Answered: a.Answered,
	}

	// An answer from before the row was read again does not settle it: the ledger that received that answer may be
	// lost. The row is settled when it is resolved again, or by a later answer.
	if w.Latest.Version == a.Version && !w.Unresolved && stored.UnixNano() > w.Reread {
		w.Open = false
	}

	return true
}

// Repeat returns the last update again, after a call that carried this worker was given up. Whatever that call did, and
// when, AtHoc then gets the latest status last. Repeat returns nil as long as AtHoc may still be working on the call.
func (w *Worker) Repeat(employee string, now time.Time) *event.Update {
	if w.InDoubt == 0 || now.Unix() < w.InDoubt {
		return nil
	}

	w.InDoubt = 0
	if w.Sent == nil {
		return nil
	}

	w.Confirmed = nil // what AtHoc holds is unknown until it answers this update

	return w.Sent.update(employee, event.ReasonRepeat, w.Hold != nil || w.kept(Event{Version: w.Sent.Version, File: w.Sent.File}))
}

// Unconfirmed reports whether the last update that was published still waits for AtHoc's answer.
func (w *Worker) Unconfirmed() bool {
	return w.Sent != nil && (w.Confirmed == nil || w.Confirmed.Version != w.Sent.Version || w.Confirmed.User != w.Sent.User)
}

// Rebuilt returns a worker of whom only the last published update is known, since the state store was lost. If the row
// still waits for an outcome, its file is read again and the event is Repeated. The update is published again, since
// its answer may have been lost with the store: otherwise it would count as under way for ever.
func Rebuilt(u event.Update) Worker {
	return Worker{
		Latest:     Event{Version: u.Version, File: u.File, On: u.On, At: u.At},
		Sent:       &Sent{User: u.User, File: u.File, Version: u.Version, On: u.On, At: u.At},
		Unresolved: true, Sending: true,
	}
}
