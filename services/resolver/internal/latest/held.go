package latest

// This file is what a hold means for a worker: the latest event is not sent until a person has decided.

import (
	"time"

	"bobosync/services/resolver/internal/guard"
)

// Hold is a worker's entry in a mass change that waits for a person.
type Hold struct {
	// Group names the mass change, and Seq is the count of its additions by then.
	Group string `cbor:"1,keyasint"`
	Seq   int    `cbor:"2,keyasint"`
}

// Withheld is an event that was rejected with the mass change that it was part of; of those of one mass change it is the newest. It is
// never changed: copies of a worker share it.
type Withheld struct {
	Event Event  `cbor:"1,keyasint"`
	Group string `cbor:"2,keyasint"`
	// Next is that of another mass change, which can be taken in after all by itself.
	Next *Withheld `cbor:"3,keyasint,omitempty"`
}

// maxWithheld bounds the mass changes of which a worker's event is kept: the last that were rejected.
const maxWithheld = 10

// without returns those of other mass changes, at most so many.
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

// stale reports whether the latest event is duty that is too old to be shown. A person may have rejected that it is cleared.
func (w *Worker) stale(now time.Time, rules Rules) bool {
	return rules.Stale(w.Latest.On, w.Latest.At, now) && !w.Kept()
}

// Kept reports whether the latest event is duty of which a person has rejected that it is cleared for its age.
func (w *Worker) Kept() bool { return w.kept(w.Latest) }

// kept reports whether a person has rejected that the duty of an event is cleared for its age.
func (w *Worker) kept(e Event) bool {
	for h := w.Withheld; h != nil; h = h.Next {
		if h.Event.sameRow(e) {
			return true
		}
	}

	return false
}

// SentOn reports whether AtHoc was sent last that a user of this worker is on duty. What was sent may be forgotten, with the state store and
// the table of updates; then the previous event shows it, which was settled.
func (w *Worker) SentOn() bool {
	if w.Sent != nil {
		return w.Sent.On
	}
	return w.Prior != nil && w.Prior.On && !w.Unmapped
}

// runnerUp makes an event the one that counts if the latest is rejected, if it is newer than the one that does so far, and than what was
// sent. It was beaten before anything followed from it. One of the latest's own file does not count: it would be a part of what is
// rejected, and nobody was shown it. If it is not known what was sent, the one that does so far stays: SentOn goes by it.
func (w *Worker) runnerUp(e, latest Event) {
	switch {
	case e.File == latest.File, w.Sent == nil, e.Version.Compare(w.Sent.Version) <= 0,
		w.Prior != nil && e.Version.Compare(w.Prior.Version) <= 0:
	default:
		w.Prior = &e
	}
}

// Keep makes the worker, as it was before the latest event was resolved, wait for a person.
func (w *Worker) Keep(h Hold) {
	w.Hold, w.Unresolved, w.Replay = &h, true, ""
}

// Pass lets the latest event through, without asking the guard again.
func (w *Worker) Pass() {
	w.Hold, w.Passed, w.Unresolved = nil, true, true
}

// Reject makes the event before the latest one the latest again. If the row awaits its outcome, its event is returned: it is withheld. If
// it is not certain that what follows from the event before is out, it is decided again.
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

// KeepDuty leaves stale duty as it is, since a person wants that. If its row awaits its outcome, AtHoc has an earlier duty, and is sent
// this one.
func (w *Worker) KeepDuty() {
	w.Withhold(w.Latest, w.Hold.Group)
	w.Hold, w.Unresolved, w.Prior = nil, w.Sending || w.Open, nil
}

// Withhold notes that an event was rejected with a mass change, unless a newer one was with the same: that one is taken in if people take
// in after all what they have rejected.
func (w *Worker) Withhold(e Event, group string) {
	if known, is := w.WithheldWith(group); !is || known.sameRow(e) || known.Version.Compare(e.Version) < 0 {
		w.Withheld = &Withheld{Event: e, Group: group, Next: w.Withheld.without(group, maxWithheld-1)}
	}
}

// LeftHold reports whether an event that was once part of a mass change was none of those that were rejected with it: a newer one had taken
// its place by then. If the worker's record was lost meanwhile, that is not always known.
func (w *Worker) LeftHold(e Event, group string) bool {
	if rejected, is := w.WithheldWith(group); is {
		return !rejected.sameRow(e) && e.Version.Compare(rejected.Version) < 0
	}
	return w.Known() && e.Version.Compare(w.Latest.Version) < 0
}

// Readmit accepts after all the event that was rejected with a mass change. It reports whether it is the latest again; otherwise a newer
// one has won meanwhile, and the row that is returned is superseded.
func (w *Worker) Readmit(group string) (latest bool, superseded *Event) {
	e, is := w.WithheldWith(group)
	if !is {
		return false, nil
	}

	w.Withheld = w.Withheld.without(group, maxWithheld)
	if w.Latest.sameRow(e) { // duty that was left as it is
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

// Recall restores what was decided about the latest event's row when it was read before, since the state store was lost.
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
