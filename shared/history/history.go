// Package history judges what AtHoc held of a worker at a moment, from what it was told (the stream HISTORY). It is pure: who reads the
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
	// Unknown: nothing is known of that time, or AtHoc was told nothing yet.
	Unknown State = "unknown"
)

// Past is what is known of a moment.
type Past struct {
	State State
	// Held is what AtHoc had confirmed last; nil if nothing.
	Held *event.Told
	// Doubts are calls without an answer, and Gaps times in which answers were lost, that make it uncertain.
	Doubts []event.Told
	Gaps   []event.Gap
	// Next is what AtHoc was told next, and took or may have taken; nil if nothing.
	Next *event.Told
}

// Writes reports whether AtHoc took what it was told.
func Writes(t event.Told) bool { return t.Outcome == event.Applied || t.Outcome == event.Expired }

// when is from when on something told counts, in Unix milliseconds.
func when(t event.Told) int64 {
	if t.Outcome == event.Pending {
		return t.Call.Sent
	}
	return t.Call.Answered
}

// same reports whether two tell AtHoc the same value.
func same(a, b event.Told) bool { return a.On == b.On && (!a.On || a.At == b.At) }

// Sort puts what was told in the order in which it counts: that of sending, since no two calls that carry the same user are under way at
// once, and a publisher that was frozen reads an answer late. What stands there twice is left out, and so is a call that is said to
// have no answer though there is one.
func Sort(told []event.Told) []event.Told {
	type key struct{ call, user string }
	answered := map[key]bool{}
	for _, t := range told {
		if t.Outcome != event.Pending && t.Call.ID != "" {
			answered[key{t.Call.ID, t.User}] = true
		}
	}
	out := slices.DeleteFunc(slices.Clone(told), func(t event.Told) bool {
		return t.Outcome == event.Pending && answered[key{t.Call.ID, t.User}]
	})
	slices.SortStableFunc(out, func(a, b event.Told) int {
		return cmp.Or(cmp.Compare(a.Call.Sent, b.Call.Sent), cmp.Compare(a.Call.ID, b.Call.ID))
	})
	return slices.CompactFunc(out, func(a, b event.Told) bool { return a == b })
}

// At tells what AtHoc held of a user at a moment, from what it was told of him and is known of the whole. told may hold less
// than everything: what Settles a moment before is enough, with all that follows.
func At(told []event.Told, books event.Books, moment time.Time) Past {
	t := moment.UnixMilli()
	var p Past
	for _, r := range Sort(told) {
		switch {
		case r.Outcome != event.Pending && !Writes(r):
		case when(r) > t:
			if p.Next == nil {
				p.Next = &r
			}
		case r.Outcome == event.Pending:
			p.Doubts = append(p.Doubts, r)
		default:
			p.Held = &r
			p.Doubts = slices.DeleteFunc(p.Doubts, func(d event.Told) bool { return d.Until <= r.Call.Sent })
		}
	}
	for _, g := range books.Gaps {
		if g.From <= t && (p.Held == nil || p.Held.Call.Sent < g.To) {
			p.Gaps = append(p.Gaps, g)
		}
	}
	p.State = p.judge(books, t)
	return p
}

func (p *Past) judge(books event.Books, t int64) State {
	switch {
	case t < books.From.UnixMilli() && p.Held == nil:
		return Unknown
	case len(p.Gaps) > 0:
		return Uncertain
	case slices.ContainsFunc(p.Doubts, func(d event.Told) bool { return p.Held == nil || !same(d, *p.Held) }):
		return Uncertain
	case p.underWay(t):
		return Uncertain
	case p.Held == nil:
		return Unknown
	case p.Held.On:
		return On
	default:
		return Off
	}
}

// underWay reports whether AtHoc was being told something else at a moment, in Unix milliseconds.
func (p *Past) underWay(t int64) bool {
	return p.Next != nil && p.Next.Call.Sent <= t && (p.Held == nil || p.Held.Call.Sent <= p.Next.Call.Sent && !same(*p.Next, *p.Held))
}

// Settles reports whether nothing that was told before a confirmed value can matter after it: longest is the longest that AtHoc may have
// been working on a call.
func Settles(t, before event.Told, longest time.Duration) bool {
	return Writes(t) && before.Call.Sent+longest.Milliseconds() <= t.Call.Sent
}
