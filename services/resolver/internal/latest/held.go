package latest

// This file defines what a hold means for a worker: the latest event is not sent until a person has decided.

import (
	"time"

	"bobosync/services/resolver/internal/guard"
)

// Hold is a worker's entry in a mass change that waits for a person.
type Hold struct {
	// Group is the id of the hold, and Seq is guard.Group.Seq when the worker was added to it.
	Group string `cbor:"1,keyasint"`
	Seq   int    `cbor:"2,keyasint"`
}

// Withheld is an event that was rejected with the mass change that it was part of. If several events of the worker were
// rejected with that mass change, it is the newest of them. A Withheld is never changed: copies of a worker share it.
type Withheld struct {
	Event Event  `cbor:"1,keyasint"`
	Group string `cbor:"2,keyasint"`
	// Next is the event that was rejected with another mass change. Each of them can be accepted after all by itself.
	Next *Withheld `cbor:"3,keyasint,omitempty"`
}

// maxWithheld is how many withheld events a worker keeps, one for each mass change: those that were rejected last.
const maxWithheld = 10

// without returns the list without the event of the given mass change, cut off after the first most events.
func (h *Withheld) without(group string, most int) *Withheld {
	switch {
	case h == nil, most == 0:
		return nil
	case h.Group == group:
		return h.Next.without(group, most)
	}

	return &Withheld{Event: h.Event, Group: h.Group, Next: h.Next.without(group, most-1)}
}

// WithheldWith returns the event that was rejected with a mass change; false if there is none.
func (w *Worker) WithheldWith(group string) (Event, bool) {
	for h := w.Withheld; h != nil; h = h.Next {
		if h.Group == group {
			return h.Event, true
		}
	}

	return Event{}, false
}

// stale reports whether the latest event is duty that is too old to be shown. Duty does not count as stale if a person
// rejected clearing it.
func (w *Worker) stale(now time.Time, rules Rules) bool {
	return rules.Stale(w.Latest.On, w.Latest.At, now) && !w.Kept()
}

// Kept reports whether the latest event is duty that a person refused to have cleared for its age.
func (w *Worker) Kept() bool { return w.kept(w.Latest) }

// kept reports whether a person refused to have the duty of e cleared for its age.
func (w *Worker) kept(e Event) bool {
	for h := w.Withheld; h != nil; h = h.Next {
		if h.Event.sameRow(e) {
			return true
		}
	}

	return false
}

// SentOn reports whether AtHoc was last sent that a user of this worker is on duty. If what was sent is unknown,
// because the state store and the table of updates were both lost, the previous event decides: its row was settled.
func (w *Worker) SentOn() bool {
	if w.Sent != nil {
		return w.Sent.On
	}
	return w.Prior != nil && w.Prior.On && !w.Unmapped
}

// runnerUp makes e the Prior event, which counts if latest is rejected, provided that e is newer than the present Prior
// and than what was sent. e was superseded before anything followed from it. An event of latest's own file does not
// count: it would be part of what is rejected, and nobody was shown it. If it is not known what was sent, Prior stays
// as it is, since SentOn depends on it.
func (w *Worker) runnerUp(e, latest Event) {
	switch {
	case e.File == latest.File, w.Sent == nil, e.Version.Compare(w.Sent.Version) <= 0,
		w.Prior != nil && e.Version.Compare(w.Prior.Version) <= 0:
	default:
		w.Prior = &e
	}
}

// Keep makes the worker wait for a person, in hold h. It must be called on the worker as it was before the latest event
// was resolved.
func (w *Worker) Keep(h Hold) {
	w.Hold, w.Unresolved, w.Replay = &h, true, ""
}

// Pass lets the latest event through; the guard is not asked about it again.
func (w *Worker) Pass() {
	w.Hold, w.Passed, w.Unresolved = nil, true, true
}

// Reject makes the event before the latest one the latest again. If the rejected event's row awaits its outcome, the
// rejected event is returned: its row is withheld. If what follows from the event before may not have been published,
// the worker is resolved again.
func (w *Worker) Reject() *Event {
	rejected, open := w.Latest, w.Open
	w.Withhold(rejected, w.Hold.Group)

	w.Hold, w.Open, w.Unresolved = nil, false, w.Sending
	prior := w.Prior
	w.Prior = nil
	switch {
	case prior != nil:
		w.Latest = *prior
		w.Unresolved = w.Unresolved || w.Sent != nil && w.Sent.Version != prior.Version
	case w.Sent != nil:
		w.Latest = Event{Version: w.Sent.Version, File: w.Sent.File, On: w.Sent.On, At: w.Sent.At}
	default:
		w.Latest = Event{}
	}

	if !open {
		return nil
	}

	return &rejected
}

// KeepDuty leaves stale duty as it is, because a person wants that. If its row still awaits its outcome, AtHoc has an
// earlier duty and is sent this one.
func (w *Worker) KeepDuty() {
	w.Withhold(w.Latest, w.Hold.Group)
	w.Hold, w.Unresolved, w.Prior = nil, w.Sending || w.Open, nil
}

// Withhold notes that an event was rejected with a mass change, unless a newer event of the same mass change is noted
// already: the newest one is what is accepted if the mass change is requeued.
func (w *Worker) Withhold(e Event, group string) {
	if known, is := w.WithheldWith(group); !is || known.sameRow(e) || known.Version.Compare(e.Version) < 0 {
		w.Withheld = &Withheld{Event: e, Group: group, Next: w.Withheld.without(group, maxWithheld-1)}
	}
}

// LeftHold reports whether an event that was once part of a mass change was no longer part of it when the mass change
// was rejected, because a newer event had taken its place. If the worker's record was lost meanwhile, this is not
// always known.
func (w *Worker) LeftHold(e Event, group string) bool {
	if rejected, is := w.WithheldWith(group); is {
		return !rejected.sameRow(e) && e.Version.Compare(rejected.Version) < 0
	}
	return w.Known() && e.Version.Compare(w.Latest.Version) < 0
}

// Readmit accepts after all the event that was rejected with a mass change. latest is whether that event is the
// worker's latest again; if not, a newer one has won meanwhile. superseded, if not nil, is the event whose row is
// superseded: the readmitted one if a newer one has won, otherwise the one that the readmitted event replaces.
func (w *Worker) Readmit(group string) (latest bool, superseded *Event) {
	e, is := w.WithheldWith(group)
	if !is {
		return false, nil
	}

	w.Withheld = w.Withheld.without(group, maxWithheld)
	if w.Latest.sameRow(e) { // stale duty that was left as it was
		w.Pass()
		return true, nil
	}

	disposition, beaten := w.Take(e, false)
	if disposition == Older {
		return false, &e
	}

	w.Pass()

	return true, beaten
}

// Recall applies what was decided about the latest event's row when it was read before, in case the state store was
// lost since. known is the hold that the row was put into; nil if it was in none.
func (w *Worker) Recall(known *guard.Group) {
	switch {
	case known.Is("") && w.Hold == nil:
		w.Keep(Hold{Group: known.ID, Seq: known.Seq})
	case known.Is(guard.Approved), known.Is(guard.Requeued):
		w.Passed = true
	case known.Is(guard.Rejected) && known.Kind.Clears():
		w.Withhold(w.Latest, known.ID)
	}
}
