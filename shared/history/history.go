// Package history judges what AtHoc held for a worker at a moment, from what it was sent (the stream HISTORY). It is
// pure: the resolver reads the stream.
//
// The axis is the time of AtHoc's answers, by the publishers' clocks. While a call is under way, which may be long if
// its publisher is frozen, it is uncertain what AtHoc holds. A call without an answer makes that uncertain from when it
// was sent. The uncertainty ends with the answer to a call that was sent when AtHoc could no longer be working on the
// first one.
package history

import (
	"cmp"
	"slices"
	"time"

	"bobosync/shared/event"
)

// State is the status that AtHoc held.
type State string

// The states.
const (
	On  State = "on"
	Off State = "off"
	// Uncertain: a call had no answer, or none yet, so AtHoc held one of several.
	Uncertain State = "uncertain"
	// Unknown: nothing is known of that time, or AtHoc had been sent nothing yet.
	Unknown State = "unknown"
)

// Past is what is known of a moment.
type Past struct {
	State State
	// Confirmed is what AtHoc had last confirmed; nil if nothing.
	Confirmed *event.Delivery
	// Doubts are calls without an answer, and Gaps periods in which answers were lost, that make the state uncertain.
	Doubts []event.Delivery
	Gaps   []event.Gap
	// Next is what AtHoc was sent next, and accepted or may have accepted; nil if nothing.
	Next *event.Delivery
}

// Writes reports whether AtHoc accepted the value that it was sent.
func Writes(t event.Delivery) bool { return t.Outcome == event.Applied || t.Outcome == event.Expired }

// when returns the time from which a delivery counts, in Unix milliseconds.
func when(t event.Delivery) int64 {
	if t.Outcome == event.Pending {
		return t.Call.Sent
	}
	return t.Call.Answered
}

// same reports whether two deliveries send AtHoc the same value.
func same(a, b event.Delivery) bool { return a.On == b.On && (!a.On || a.At == b.At) }

// order returns when a call was sent, in Unix milliseconds. A publisher of an earlier version, which gave calls no ids,
// recorded only the second in which the call was answered. That call was under way in that second at the latest; since
// when is not known.
func order(t event.Delivery) int64 {
	if t.Call.ID == "" {
		return t.Call.Answered / 1000 * 1000
	}
	return t.Call.Sent
}

// Sort sorts deliveries by the time of sending, which is the order that counts: no two calls that carry the same user
// are under way at once, and a publisher that was frozen reads an answer late. It drops duplicates, and calls that are
// recorded as having no answer although there is one.
func Sort(deliveries []event.Delivery) []event.Delivery {
	type key struct{ call, user string }

	answered := map[key]bool{}
	for _, t := range deliveries {
		if t.Outcome != event.Pending && t.Call.ID != "" {
			answered[key{t.Call.ID, t.User}] = true
		}
	}

	out := slices.DeleteFunc(slices.Clone(deliveries), func(t event.Delivery) bool {
		return t.Outcome == event.Pending && answered[key{t.Call.ID, t.User}]
	})
	slices.SortStableFunc(out, func(a, b event.Delivery) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.Call.ID, b.Call.ID))
	})

	return slices.CompactFunc(out, func(a, b event.Delivery) bool { return a == b })
}

// At returns what AtHoc held for a user at a moment, judged from the deliveries for that user and from what is known of
// the history as a whole. The deliveries need not be complete: one that Settles those before it is enough, together
// with all that follow.
func At(deliveries []event.Delivery, info event.HistoryInfo, moment time.Time) Past {
	t := moment.UnixMilli()
	var p Past
	for _, r := range Sort(deliveries) {
		switch {
		case r.Outcome != event.Pending && !Writes(r):
		case when(r) > t:
			if p.Next == nil {
				p.Next = &r
			}
		case r.Outcome == event.Pending:
			p.Doubts = append(p.Doubts, r)
		default:
			p.Confirmed = &r
			p.Doubts = slices.DeleteFunc(p.Doubts, func(d event.Delivery) bool { return d.Until <= r.Call.Sent })
		}
	}

	for _, g := range info.Gaps {
		if g.From <= t && (p.Confirmed == nil || p.Confirmed.Call.Sent < g.To) {
			p.Gaps = append(p.Gaps, g)
		}
	}

	p.State = p.judge(info, t)

	return p
}

func (p *Past) judge(info event.HistoryInfo, t int64) State {
	switch {
	case t < info.From.UnixMilli() && p.Confirmed == nil:
		return Unknown
	case len(p.Gaps) > 0:
		return Uncertain
	case slices.ContainsFunc(p.Doubts, func(d event.Delivery) bool { return p.Confirmed == nil || !same(d, *p.Confirmed) }):
		return Uncertain
	case p.underWay(t):
		return Uncertain
	case p.Confirmed == nil:
		return Unknown
	case p.Confirmed.On:
		return On
	default:
		return Off
	}
}

// underWay reports whether a different value was under way to AtHoc at a moment, in Unix milliseconds.
func (p *Past) underWay(t int64) bool {
	return p.Next != nil && p.Next.Call.Sent <= t && (p.Confirmed == nil || order(*p.Confirmed) <= order(*p.Next) && !same(*p.Next, *p.Confirmed))
}

// Settles reports whether the earlier delivery before can no longer matter after t: AtHoc accepted t, and when t was
// sent it could no longer be working on before. The parameter longest is the longest that AtHoc may work on a call.
func Settles(t, before event.Delivery, longest time.Duration) bool {
	return Writes(t) && before.Call.Sent+longest.Milliseconds() <= t.Call.Sent
}
