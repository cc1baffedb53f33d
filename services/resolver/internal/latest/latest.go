// Package latest decides which event of a worker wins, what AtHoc should be sent, and what becomes of a row. All of it is
// pure: no clock, no store, no broker.
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
	// Feed is that which the file came from; empty if there is only one, or if it is not known.
	Feed string `cbor:"5,keyasint,omitempty"`
}

// sameRow reports whether two events are one booking. The order of reading is left out: it can change when ingest's ledger was
// lost, and a row must not supersede itself.
func (e Event) sameRow(f Event) bool { return e.File == f.File && e.Version.Row == f.Version.Row }

// want is what AtHoc should be sent for the user of a worker whose latest event it is. Stale duty is shown as off duty.
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

// update is the update that says so. Keep is for duty: a person wants it to stay.
func (s Sent) update(employee string, reason event.Reason, keep bool) *event.Update {
	return &event.Update{
		User: s.User, Employee: employee, On: s.On, At: s.At, Version: s.Version, File: s.File, Reason: reason, Keep: s.On && keep,
	}
}

// Confirmed is AtHoc's last answer for a worker.
type Confirmed struct {
	Sent
	Outcome event.Outcome `cbor:"6,keyasint"`
	// Answered is when, in Unix seconds.
	Answered int64 `cbor:"7,keyasint"`
}

// Worker is the stored record of a worker. The zero value is a worker never seen. The numbers in the tags are those
// of the stored record (CBOR, RFC 8949): never change or reuse one.
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
	// Replay names the replay that is still to send this worker's status again.
	Replay string `cbor:"7,keyasint,omitempty"`
	// InDoubt, if not 0, is until when (in Unix seconds) AtHoc may still apply an update whose call got no answer.
	InDoubt int64 `cbor:"8,keyasint,omitempty"`

	// Hold: the latest event is part of a mass change that waits for a person; it is unresolved all that time. Passed: a person has let it
	// through. See held.go.
	Hold   *Hold `cbor:"10,keyasint,omitempty"`
	Passed bool  `cbor:"11,keyasint,omitempty"`
	// Prior is the event that counts if a person rejects the latest one, while that is unresolved; see runnerUp.
	Prior *Event `cbor:"12,keyasint,omitempty"`
	// Withheld is the event that a person has rejected last.
	Withheld *Withheld `cbor:"13,keyasint,omitempty"`
	// Reread, if not 0, is when the broker stored the latest event's row that was read again (in Unix nanoseconds).
	Reread int64 `cbor:"14,keyasint,omitempty"`
}

// Known reports whether the worker was seen before.
func (w *Worker) Known() bool { return w.Latest.File != "" }

// Stranger reports whether nothing but the latest event is known of the worker, and no AtHoc user was found for it: such workers may
// be invented.
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

// Take compares an event with the worker's latest. Settled means that nobody awaits the outcome of the event's row. If the
// event is newer and the row of the previous one still waited for its outcome, that row is returned: it is superseded.
func (w *Worker) Take(e Event, settled bool) (disposition Disposition, superseded *Event) {
	switch {
	case w.Known() && w.Latest.sameRow(e):
		// A state store that was rebuilt from an update knows what was sent, which for stale duty is another thing.
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

// ReadAgain notes when the broker stored the latest event's row, which is Repeated: an answer from before it is no outcome of the row for who
// reads it again.
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

// StaleBefore is the Unix second before which duty must have begun to be stale; 0 if none ever is.
func (r Rules) StaleBefore(now time.Time) int64 {
	if r.Lifetime == 0 {
		return 0
	}
	return now.Add(-r.Lifetime).Unix()
}

// Resolve decides what follows from the worker's latest event, for the user that the worker is mapped to ("" if none). It
// returns the update to publish, or nil; and the outcome of the latest row, or Pending if it comes with AtHoc's answer.
// The worker then holds what was decided; the outcome is to be reported only if the row was Open before.
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
		// The row is settled at once. AtHoc is sent it only if it was ever sent something: clearing a value that was there before
		// us is the janitor's business, which has done so if it was Passed.
		w.Open, outcome = false, event.Expired
		if w.Sent == nil && !passed {
			return nil, outcome
		}
	}

	return w.send(employee, want, reason), outcome
}

// Intent is the worker as saved before an update is published: after is the worker once it is published, before the worker until then. If
// publishing fails, or the process ends in between, the worker is resolved again, and what AtHoc confirmed earlier is not taken for what
// it holds.
func Intent(before, after Worker) Worker {
	after.Open, after.Unresolved, after.Sending = before.Open, true, true
	return after
}

// Again returns the update that resends the worker's status, whatever is known of what AtHoc holds; nil if there is nothing to send, or
// no user.
func (w *Worker) Again(employee, user string, reason event.Reason, now time.Time, rules Rules) *event.Update {
	w.Replay = ""
	if user == "" || !w.Known() {
		return nil
	}

	return w.send(employee, w.Latest.want(user, w.stale(now, rules)), reason)
}

func (w *Worker) send(employee string, want Sent, reason event.Reason) *event.Update {
	if c := w.Confirmed; c != nil && c.Version == want.Version && c.User == want.User {
		w.Confirmed = nil // it answers an earlier update with the same event, and this one's answer is awaited
	}

	w.Sent, w.Sending, w.Replay = &want, false, "" // whatever is sent now, a replay need not send it again

	return want.update(employee, reason, w.Kept())
}

// known returns AtHoc's answer to what is wanted, and reports whether it is known.
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

// Answer takes AtHoc's answer to an update into account; stored is when the broker stored it. It returns false if the answer changes
// nothing.
func (w *Worker) Answer(a event.Answer, stored time.Time, rules Rules) bool {
	if a.Outcome == event.Pending {
		w.InDoubt = max(w.InDoubt, time.Unix(a.Answered, 0).Add(rules.Lateness).Unix())
		return true
	}

	// Off duty can answer an update that says on duty, if it became stale on its way; the other way round it is a late one.
	if w.Sent == nil || w.Sent.Version != a.Version || w.Sent.User != a.User || a.On && !w.Sent.On {
		return false // an answer to an update that was overtaken
	}

	if w.Sending {
		return false // it may be older than what makes the update be published again, such as that another worker had the user meanwhile
	}

	w.Confirmed = &Confirmed{
		Sent:    Sent{User: a.User, File: a.File, Version: a.Version, On: a.On, At: a.At},
		Outcome: a.Outcome, Answered: a.Answered,
	}

	// A row that was read again is settled again when it is resolved, or by a later answer: the ledger that got this one may be lost.
	if w.Latest.Version == a.Version && !w.Unresolved && stored.UnixNano() > w.Reread {
		w.Open = false
	}

	return true
}

// Repeat returns the last update again, after a call that carried this worker was given up: whatever that call did, and
// when, the latest status is the last one that AtHoc gets. It returns nil as long as AtHoc may still be working on the call.
func (w *Worker) Repeat(employee string, now time.Time) *event.Update {
	if w.InDoubt == 0 || now.Unix() < w.InDoubt {
		return nil
	}

	w.InDoubt = 0
	if w.Sent == nil {
		return nil
	}

	w.Confirmed = nil // it is not known what AtHoc holds until the answer to this one

	return w.Sent.update(employee, event.ReasonRepeat, w.Hold != nil || w.kept(Event{Version: w.Sent.Version, File: w.Sent.File}))
}

// Unconfirmed reports whether the last update that was published still waits for AtHoc's answer.
func (w *Worker) Unconfirmed() bool {
	return w.Sent != nil && (w.Confirmed == nil || w.Confirmed.Version != w.Sent.Version || w.Confirmed.User != w.Sent.User)
}

// Rebuilt is a worker of whom nothing is known but what was published before the state store was lost. If its row still waits for an
// outcome, its file is read again and the event is Repeated. It is published again, since the answer may have been lost with the
// store: otherwise it would count as under way for ever.
func Rebuilt(u event.Update) Worker {
	return Worker{
		Latest:     Event{Version: u.Version, File: u.File, On: u.On, At: u.At},
		Sent:       &Sent{User: u.User, File: u.File, Version: u.Version, On: u.On, At: u.At},
		Unresolved: true, Sending: true,
	}
}
