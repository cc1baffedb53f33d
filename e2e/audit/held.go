// Mass changes that wait for a person: what is held is not sent before somebody releases it, and nothing else is
// released with it. Nothing is sent during a pause.

package audit

import (
	"slices"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// Row identifies a row of a file; File is the SHA-256 of the file's content.
type Row struct {
	File string
	Line int
}

// Look is what an operator was shown of a hold: the rows in it at some moment between Asked and Answered.
type Look struct {
	Asked, Answered time.Time
	Rows            []Row
}

// Verb is what an operator ordered about a hold.
type Verb string

// The verbs. What was rejected may be requeued later.
const (
	Approve Verb = "approve"
	Reject  Verb = "reject"
	Requeue Verb = "requeue"
)

// Decision is an operator's order about exactly these rows.
type Decision struct {
	Verb            Verb
	Asked, Answered time.Time
	Rows            []Row
	// Followed means that the order was certainly carried out. An order that was refused is not recorded; of any
	// other it is uncertain.
	Followed bool
}

// Pause is a time in which an operator wanted no updates and, if All is set, no searches either.
type Pause struct {
	Window
	All bool
}

// fate is what operators saw and ordered about an event.
type fate struct {
	// held is when the event was first seen to be held.
	held      time.Time
	decisions []Decision // by Asked
}

// readOrders works out the fate of each row. It ignores what was seen at a time when the pipeline may have forgotten
// it again.
func (a *auditor) readOrders() {
	a.fates = map[Row]*fate{}
	get := func(r Row) *fate {
		if a.fates[r] == nil {
			a.fates[r] = &fate{}
		}
		return a.fates[r]
	}
	for _, l := range a.in.Looks {
		if slices.ContainsFunc(a.in.Forgotten, func(w Window) bool { return !l.Answered.Before(w.From) && !l.Asked.After(w.To) }) {
			continue
		}

		for _, r := range l.Rows {
			if f := get(r); f.held.IsZero() {
				f.held = l.Asked
			}
		}
	}

	slices.SortStableFunc(a.in.Decisions, func(x, y Decision) int { return x.Asked.Compare(y.Asked) })

	for _, d := range a.in.Decisions {
		for _, r := range d.Rows {
			f := get(r)
			f.decisions = append(f.decisions, d)
		}
	}
}

func (a *auditor) fate(e event) *fate {
	if f := a.fates[Row{a.read[e.file].id, e.line}]; f != nil {
		return f
	}
	return &fate{}
}

// heldAt reports whether an event was seen to be held before a time, and nobody had released it by then.
func (f *fate) heldAt(at time.Time) bool {
	return !f.held.IsZero() && f.held.Before(at) && !f.ordered(at, Approve, Requeue)
}

// ordered reports whether any of these orders may have been given before a time.
func (f *fate) ordered(at time.Time, verbs ...Verb) bool {
	return slices.ContainsFunc(f.decisions, func(d Decision) bool { return d.Asked.Before(at) && slices.Contains(verbs, d.Verb) })
}

// rejected reports whether the event may have been rejected in the end, and whether that is certain.
func (f *fate) rejected() (maybe, certain bool) {
	for _, d := range f.decisions {
		switch {
		case d.Verb == Reject:
			maybe, certain = true, d.Followed
		case d.Followed:
			maybe, certain = false, false
		default:
			certain = false
		}
	}

	return maybe, certain
}

// decided returns when the last order about the event was answered.
func (f *fate) decided() (at time.Time) {
	for _, d := range f.decisions {
		if d.Answered.After(at) {
			at = d.Answered
		}
	}

	return at
}

// withoutRejected returns the events that may be a worker's latest. There may be several, since it is uncertain
// whether some orders were followed. changed reports that a newer event may have been rejected; the events that it
// superseded may then count again, or not.
func (a *auditor) withoutRejected(h *history) (last []event, changed bool) {
	for _, e := range slices.Backward(h.events) {
		maybe, certain := a.fate(e).rejected()
		if !certain {
			last = append(last, e)
		}

		if !maybe {
			return last, changed
		}

		changed = true
	}

	return last, changed
}

// mayFail reports whether a file may be among the failed ones, because a row of it may have been rejected.
func (a *auditor) mayFail(id string) bool {
	for r, f := range a.fates {
		if r.File == id && f.ordered(a.in.Ended, Reject) {
			return true
		}
	}

	return false
}

// goesOff reports whether a send takes a user off duty although a person released none of the events that it can be
// for.
func (a *auditor) goesOff(events []event, s send) bool {
	return s.value == "" && !events[0].on && !slices.ContainsFunc(events, func(e event) bool {
		return !e.on && a.fate(e).ordered(time.Unix(0, s.arrived), Approve, Requeue)
	})
}

// checkFlips checks that no more users go off duty than may without a person's approval. If the pipeline forgot what
// it had counted, it may have started counting again.
func (a *auditor) checkFlips() {
	g := a.in.Rules.Guard
	if g.Window == 0 {
		return
	}

	windows := 1 + int(a.in.Ended.Sub(a.in.Started)/g.Window) + len(a.in.Forgotten)
	if most := windows * max(g.MinUsers-1, len(a.users)*g.Percent/100); a.flips > most {
		a.find(Finding{Kind: Held}, "%d users were sent off duty without a person's leave, and %d may be", a.flips, most)
	}
}

// checkPauses checks that no call arrives during a pause.
func (a *auditor) checkPauses() {
	for i := range a.in.Calls {
		c := &a.in.Calls[i]
		for _, p := range a.in.Pauses {
			stopped := c.Endpoint == sim.EndpointUpdate || c.Endpoint == sim.EndpointSearch && p.All
			if stopped && c.Arrived > p.From.UnixNano() && c.Arrived < p.To.UnixNano() {
				a.find(Finding{Kind: Paused}, "%s came during the pause from %s to %s", name(c), clock(p.From), clock(p.To))
				break
			}
		}
	}
}
