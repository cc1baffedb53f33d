package control

// Words for what is known of the past, the same for the commands and the console.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/text"
)

// Sentence says in a sentence what AtHoc held, and how that is known. The parameter names holds the names of files by
// id; times are shown in loc.
func (a PastAnswer) Sentence(names map[string]string, loc *time.Location) string {
	var b strings.Builder
	switch {
	case a.State == history.Uncertain:
		b.WriteString("It is uncertain what AtHoc held: " + a.doubt(loc))

		if a.Confirmed != nil {
			fmt.Fprintf(&b, "; the last that it had confirmed before was %s", a.Confirmed.words(names, loc))
		}
	case a.Confirmed == nil && a.At.Before(a.CompleteFrom):
		return fmt.Sprintf("Nothing is known of that time: the history is complete from %s on", text.Moment(a.CompleteFrom, loc))
	case a.Confirmed == nil:
		fmt.Fprintf(&b, "AtHoc had been told nothing of this worker since the history begins, at %s", text.Moment(a.CompleteFrom, loc))
	default:
		b.WriteString("AtHoc was told " + a.Confirmed.words(names, loc))
	}

	switch next := a.Next; {
	case next != nil && a.State == history.Uncertain && len(a.Doubts)+len(a.Gaps) == 0:
		fmt.Fprintf(&b, "; its answer was read at %s", text.Moment(next.Answered, loc))
	case next == nil:
		b.WriteString("; not told otherwise since")
	case next.Answered.IsZero():
		fmt.Fprintf(&b, "; not told otherwise until %s, by a call without an answer", text.Moment(next.Sent, loc))
	default:
		fmt.Fprintf(&b, "; not told otherwise until %s", text.Moment(next.Answered, loc))
	}

	return b.String()
}

// Seen is what a comparison saw AtHoc hold for a worker after it had confirmed what it was sent.
type Seen struct {
	// At is when the comparison began, and Entry is its entry in the journal.
	At    time.Time `json:"at"`
	Entry string    `json:"entry"`
	// Agreed is false if AtHoc held something other than it should: Holds, which is empty for off duty.
	Agreed bool   `json:"agreed"`
	Holds  string `json:"holds,omitempty"`
}

// Judge returns what a comparison saw of the worker. It returns nil if the comparison says nothing about what AtHoc
// held at the moment of the answer, or nothing about this worker: a comparison leaves out users whose update is under
// way, and those that wait for a person's decision. The parameter differing lists the users that differed; known is
// false if that list is no longer available.
func (a PastAnswer) Judge(run JournalEntry, differing []DifferingUser, known bool) *Seen {
	const near = 10 * time.Minute // an update may be under way this long before it is sent
	switch {
	case run.Ended.IsZero() || run.Outcome != OutcomeOK && run.Outcome != OutcomeHeld || run.Ended.After(a.At):
		return nil
	case a.Confirmed == nil || len(a.Doubts) > 0 || !a.Confirmed.Answered.Before(run.Started) || a.Next != nil && a.Next.Sent.Before(run.Ended.Add(near)):
		return nil
	case run.Counts["held"] > 0 || !known && run.Counts["differing"] > 0:
		return nil
	}

	seen := &Seen{At: run.Started, Entry: run.ID, Agreed: true}
	for _, u := range differing {
		if known && strings.EqualFold(u.User, a.User) {
			seen.Agreed, seen.Holds = false, u.Holds
		}
	}

	return seen
}

// Words says what was seen; times are shown in loc.
func (s *Seen) Words(loc *time.Location) string {
	at := text.Moment(s.At, loc)
	switch {
	case s.Agreed:
		return fmt.Sprintf("AtHoc was last seen to agree at %s, by a comparison", at)
	case s.Holds == "":
		return fmt.Sprintf("AtHoc was seen to hold him as off duty at %s, by a comparison: it was changed there by hand, or lost it", at)
	default:
		return fmt.Sprintf("AtHoc was seen to hold %q at %s, by a comparison: it was changed there by hand", s.Holds, at)
	}
}

// Files returns the ids of the files from which the deliveries came.
func (a PastAnswer) Files() []string {
	ids := map[string]bool{}
	for _, t := range a.Deliveries {
		if t.File != "" {
			ids[t.File] = true
		}
	}

	return slices.Sorted(maps.Keys(ids))
}

// doubt says why the state is uncertain.
func (a PastAnswer) doubt(loc *time.Location) string {
	switch {
	case len(a.Doubts) > 0:
	case len(a.Gaps) == 0:
		return fmt.Sprintf("call %s was under way, which told it %s at %s", cmp.Or(a.Next.Call, "without an id"), a.Next.status(loc), text.Moment(a.Next.Sent, loc))
	default:
		return fmt.Sprintf("answers between %s and %s may have been lost", text.Moment(a.Gaps[0].From, loc), text.Moment(a.Gaps[0].To, loc))
	}

	d := a.Doubts[len(a.Doubts)-1]

	return fmt.Sprintf("call %s told it %s at %s, and no answer says whether it took that", cmp.Or(d.Call, "without an id"), d.status(loc), text.Moment(d.Sent, loc))
}

func (t DeliveryAnswer) status(loc *time.Location) string {
	if t.On {
		return "on duty since " + text.Moment(t.Booked, loc)
	}
	return "off duty"
}

// words says what AtHoc was sent, by which call and from which row.
func (t DeliveryAnswer) words(names map[string]string, loc *time.Location) string {
	s := fmt.Sprintf("%s (booked %s) at %s", t.status(loc), text.Moment(t.Booked, loc), text.Moment(t.Sent, loc))
	if t.Call != "" {
		s += ", call " + t.Call
	}

	s += fmt.Sprintf(", answered %s %s", t.Outcome, text.Moment(t.Answered, loc))
	if t.File != "" {
		s += fmt.Sprintf(", %s line %d", cmp.Or(names[t.File], "file "+text.Short(t.File)), t.Line)
	}

	return s
}

// Words describes one call; times are shown in loc.
func (t DeliveryAnswer) Words(loc *time.Location) string {
	call := "call " + t.Call
	if t.Call == "" {
		call = "a call without an id, of a program of an older version"
	}

	if t.Outcome == event.Pending.String() {
		return fmt.Sprintf("%s, sent %s: no answer says whether AtHoc took it", call, text.Moment(t.Sent, loc))
	}

	return fmt.Sprintf("%s, sent %s, answered %s: %s", call, text.Moment(t.Sent, loc), text.Moment(t.Answered, loc), t.Outcome)
}

// ReceiptRow lists the outcome of a row and the calls that sent it.
type ReceiptRow struct {
	Line int `json:"line"`
	// Outcome is the row's outcome, the reason of its rejection, or pending.
	Outcome string `json:"outcome"`
	// Calls are the calls that sent the row to AtHoc, in order. All are in the history.
	Calls []DeliveryAnswer `json:"calls"`
	// Why says why there was no call, if there was none.
	Why string `json:"why,omitempty"`
}

// Receipt says what AtHoc was sent from a row, or why it was sent nothing. The parameter known reports whether the
// history reaches back to the file's arrival.
func Receipt(row RowState, deliveries []DeliveryAnswer, known bool) ReceiptRow {
	r := ReceiptRow{Line: row.Line, Outcome: row.Outcome, Calls: append([]DeliveryAnswer{}, deliveries...)}
	sent := row.Outcome == event.Applied.String() || row.Outcome == event.Expired.String()
	switch {
	case len(deliveries) > 0:
	case sent && !known:
		r.Why = "the history does not reach back to it"
	case row.Outcome == event.Applied.String():
		r.Why = "no call was needed: AtHoc was known to hold that already"
	default:
		r.Why = row.Text
	}

	return r
}
