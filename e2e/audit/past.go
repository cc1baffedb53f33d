package audit

// What the pipeline says that AtHoc held at a moment, compared with what AtHoc did hold.

import (
	"slices"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// Misremembered is the kind of finding for a past moment about which the pipeline says something false, or says that
// it is uncertain although nothing was.
const Misremembered Kind = "misremembered"

// Past is what the pipeline said, at the end, about a moment of the run.
type Past struct {
	// Worker is the employee id, as in the user's collar attribute.
	Worker string
	At     time.Time
	// State is on, off, uncertain or unknown; or absent, if the worker is not in the list of those on duty. For on,
	// Since is the time of booking on. Lost says that answers may have been lost, which makes the state uncertain.
	State string
	Since time.Time
	Lost  bool
	// Doubts are the times at which calls were sent that are said to have no answer.
	Doubts []time.Time
	// NextSent and NextAnswered are the times of the call that next changed the status; zero if there is none.
	NextSent, NextAnswered time.Time
	// CompleteFrom is the time since when the pipeline's history is complete.
	CompleteFrom time.Time
}

// clocks is how far the simulator's and a service's times for the same thing may differ: each takes its time a moment
// before or after the other.
const clocks = 100 * time.Millisecond

// checkPast judges what the pipeline said about the past.
func (a *auditor) checkPast() {
	for _, said := range a.in.Past {
		h := a.workers[said.Worker]
		if h == nil || h.user == nil {
			continue
		}

		p := h.user
		about := Finding{Kind: Misremembered, User: p.Login}
		switch said.State {
		case "on", "off":
			value := ""
			if said.State == "on" {
				value = said.Since.In(a.in.Rules.AtHocZone).Format(sim.DateLayout)
			}

			if held := a.held(p, said); !slices.Contains(held, value) {
				a.find(about, "at %s AtHoc is said to have held %q, and held one of %q; %s", clock(said.At), value, held, a.lastSends(p))
			}
		case "uncertain":
			if !a.doubtful(p, said) && !(said.Lost && len(a.in.MappingLost) > 0) {
				a.find(about, "at %s it is said to be uncertain what AtHoc held, though every call before had its answer; %s", clock(said.At), a.lastSends(p))
			}
		case "absent":
			held := a.held(p, said)
			told := slices.ContainsFunc(p.sends, func(s send) bool { return s.confirmed && a.known(s, said) })
			if told && !slices.Contains(held, "") && !slices.Contains(held, a.initial(p)) {
				a.find(about, "at %s AtHoc held one of %q, and the worker is not in the list of those on duty; %s", clock(said.At), held, a.lastSends(p))
			}
		default:
			if i := slices.IndexFunc(p.sends, func(s send) bool { return s.confirmed && a.known(s, said) }); i >= 0 {
				a.find(about, "nothing is said to be known of %s, and %s had its answer before", clock(said.At), name(p.sends[i].call))
			}
		}
	}
}

// known reports whether a call and its answer lie within the complete part of the history, and well before the
// moment.
func (a *auditor) known(s send, said Past) bool {
	return s.arrived > said.CompleteFrom.Add(clocks).UnixNano() && s.ended < said.At.Add(-a.in.Rules.CallTimeout).UnixNano()
}

// held returns what AtHoc may have held at about a moment: what was applied before the calls that were under way
// then, and what those calls applied.
func (a *auditor) held(p *person, said Past) []string {
	from, to := said.At.Add(-clocks).UnixNano(), said.At.Add(clocks).UnixNano()
	if !said.NextSent.IsZero() && !said.NextSent.After(said.At) {
		from = min(from, said.NextSent.Add(-clocks).UnixNano()) // it was under way, according to the pipeline itself
	}

	for _, s := range p.sends {
		if s.arrived <= to && s.ended >= from {
			from = min(from, s.arrived)
		}
	}

	value, at := a.initial(p), int64(0)
	var within []string
	for _, s := range p.sends {
		switch {
		case !s.applied || s.appliedAt > to:
		case s.appliedAt >= from:
			within = append(within, s.value)
		case s.appliedAt >= at:
			value, at = s.value, s.appliedAt
		}
	}

	return append([]string{value}, within...)
}

// underWay reports whether the moment lies within a call that the pipeline names and that did take place.
func (a *auditor) underWay(p *person, said Past) bool {
	if said.NextSent.IsZero() || said.NextSent.After(said.At) || !said.NextAnswered.After(said.At) {
		return false
	}

	return slices.ContainsFunc(p.sends, func(s send) bool {
		return s.arrived > said.NextSent.Add(-time.Millisecond).UnixNano() && s.arrived < said.NextAnswered.UnixNano()
	})
}

// longest is how long, at most, AtHoc may work on a call and a publisher on its answer.
func (a *auditor) longest() time.Duration { return 3*a.in.Rules.CallTimeout + time.Second }

// answerLost reports whether the publisher may not have stored the answer: because it was killed, frozen for longer
// than it waits for an answer, or cut off from the broker.
func (a *auditor) answerLost(s send) bool {
	return slices.ContainsFunc(a.in.Halted, func(at time.Time) bool {
		return s.arrived < at.Add(clocks).UnixNano() && s.ended > at.Add(-a.longest()).UnixNano()
	})
}

// doubtful reports whether it may be uncertain what AtHoc held at a moment: an earlier call had no answer about the
// user, or one that may be lost, and no call sent well after it was confirmed; the pipeline names a call without an
// answer that never arrived here; or a call was under way.
func (a *auditor) doubtful(p *person, said Past) bool {
	at := said.At
	if a.underWay(p, said) {
		return true
	}

	for _, sent := range said.Doubts {
		if !slices.ContainsFunc(p.sends, func(s send) bool {
			return s.arrived > sent.Add(-time.Millisecond).UnixNano() && s.arrived < sent.Add(clocks).UnixNano()
		}) {
			return true
		}
	}

	longest := a.longest()
	for i, s := range p.sends {
		if s.arrived > at.Add(clocks).UnixNano() || (s.confirmed || s.denied) && !a.answerLost(s) {
			continue
		}

		settled := slices.ContainsFunc(p.sends[i+1:], func(later send) bool {
			return later.confirmed && later.arrived > s.arrived+int64(longest) && later.ended < at.Add(-a.in.Rules.CallTimeout).UnixNano()
		})
		if !settled {
			return true
		}
	}

	for _, s := range p.sends { // a call was under way at that moment
		if s.arrived <= at.Add(clocks).UnixNano() && s.ended >= at.Add(-clocks).UnixNano() {
			return true
		}
	}

	return false
}
