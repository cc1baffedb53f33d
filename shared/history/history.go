// Package history judges what AtHoc held of a worker at a moment, from what it was sent (the stream HISTORY). It is pure: who reads the
// stream is the resolver.
//
// The axis is when AtHoc answered, by the publishers' clocks. While a call is under way, which is for long if its publisher is frozen, it is
// uncertain what AtHoc holds. A call without an answer makes that uncertain from when it was sent until a call is answered that was
// sent when AtHoc could not be working on the other one any more.
package history

import (
	"cmp"
	"slices"
	"time"

	"bobosync/shared/event"
)

// State is what AtHoc held.
type State string

// The states.
const (
	On  State = "on"
	Off State = "off"
	// Uncertain: a call had no answer, or none yet, so AtHoc held one of several.
	Uncertain State = "uncertain"
	// Unknown: nothing is known of that time, or AtHoc was sent nothing yet.
	Unknown State = "unknown"
)

// Past is what is known of a moment.
type Past struct {
	State State
	// Confirmed is what AtHoc had confirmed last; nil if nothing.
	Confirmed *event.Delivery
	// Doubts are calls without an answer, and Gaps times in which answers were lost, that make it uncertain.
	Doubts []event.Delivery
	Gaps   []event.Gap
	// Next is what AtHoc was sent next, and took or may have taken; nil if nothing.
	Next *event.Delivery
}

// Writes reports whether AtHoc took what it was sent.
func Writes(t event.Delivery) bool { return t.Outcome == event.Applied || t.Outcome == event.Expired }

// when is from when on something sent counts, in Unix milliseconds.
func when(t event.Delivery) int64 {
	if t.Outcome == event.Pending {
		return t.Call.Sent
	}
	return t.Call.Answered
}

// same reports whether two send AtHoc the same value.
func same(a, b event.Delivery) bool { return a.On == b.On && (!a.On || a.At == b.At) }

// order is when a call was sent, in Unix milliseconds. A publisher of an earlier version, which gave calls no ids, recorded only
// the second in which it was answered: its call was under way in that second at the latest, and for how long before is not known.
func order(t event.Delivery) int64 {
	if t.Call.ID == "" {
		return t.Call.Answered / 1000 * 1000
	}
	return t.Call.Sent
}

// Sort puts what was sent in the order in which it counts: that of sending, since no two calls that carry the same user are under way at
// once, and a publisher that was frozen reads an answer late. What stands there twice is left out, and so is a call that is said to
// have no answer though there is one.
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

// At returns what AtHoc held of a user at a moment, from what it was sent for him and is known of the whole. told may hold less
// than everything: what Settles a moment before is enough, with all that follows.
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

// underWay reports whether something else was under way to AtHoc at a moment, in Unix milliseconds.
func (p *Past) underWay(t int64) bool {
	return p.Next != nil && p.Next.Call.Sent <= t && (p.Confirmed == nil || order(*p.Confirmed) <= order(*p.Next) && !same(*p.Next, *p.Confirmed))
}

// Settles reports whether nothing that was sent before a confirmed value can matter after it: longest is the longest that AtHoc may have
// been working on a call.
func Settles(t, before event.Delivery, longest time.Duration) bool {
	return Writes(t) && before.Call.Sent+longest.Milliseconds() <= t.Call.Sent
}
