package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkEnd compares AtHoc's users at the end with what they should be.
func (a *auditor) checkEnd() {
	final := map[string]map[string]string{}
	for login, attributes := range a.in.Final {
		final[strings.ToLower(login)] = attributes
		if a.users[strings.ToLower(login)] == nil {
			a.find(Finding{Kind: Touched, User: login}, "AtHoc has a user who was not there at the start")
		}
	}

	for _, login := range slices.Sorted(maps.Keys(a.users)) {
		p := a.users[login]
		attributes, there := final[login]
		switch {
		case there == p.Removed:
			a.find(Finding{Kind: Touched, User: p.Login}, "in AtHoc at the end: %t, and it was removed: %t", there, p.Removed)
		case there:
			a.checkOthers(p, attributes)
			a.checkDuty(p, attributes[a.in.Rules.Duty])
		}
	}
}

// checkOthers checks that no attribute but the duty status has changed.
func (a *auditor) checkOthers(p *person, attributes map[string]string) {
	names := map[string]bool{}
	for n := range attributes {
		names[n] = true
	}

	for n := range p.Attributes {
		names[n] = true
	}

	delete(names, a.in.Rules.Duty)

	for _, n := range slices.Sorted(maps.Keys(names)) {
		if attributes[n] != p.Attributes[n] {
			a.find(Finding{Kind: Touched, User: p.Login}, "attribute %s was %q and is %q", n, p.Attributes[n], attributes[n])
		}
	}
}

func (a *auditor) checkDuty(p *person, got string) {
	want, why := a.wanted(p)
	if !slices.Contains(want, got) {
		a.find(Finding{Kind: EndState, User: p.Login}, "the duty status is %q and should be %q: %s; %s", got, want[0], why, a.lastSends(p))
	}
}

// wanted returns the duty statuses that are right at the end, the most likely first.
func (a *auditor) wanted(p *person) (values []string, why string) {
	values, why = a.unrefused(p)
	if a.refused(p, values[0]) { // AtHoc said that it will not take it, so whatever it held before is right as well
		values = append(values, a.applied(p))
	}

	return values, why
}

// unrefused returns the duty statuses that are right if AtHoc accepts whatever it is sent.
func (a *auditor) unrefused(p *person) (values []string, why string) {
	initial := a.initial(p)
	if p.Forbidden {
		return []string{initial}, "this account cannot write the user"
	}

	if p.worker == nil || len(p.worker.events) == 0 {
		switch {
		case a.in.Rules.Cleans && a.staleValue(initial, a.in.Started):
			return []string{""}, "no file speaks of the user, and the status is stale"
		case a.staleValue(initial, a.in.Ended):
			return []string{initial, ""}, "no file speaks of the user, and the status is stale"
		}

		return []string{initial}, "no file speaks of the user"
	}

	last, changed := a.withoutRejected(p.worker)
	for _, e := range last {
		more, text := a.wantedFor(e, initial)
		values, why = append(values, more...), why+text
	}

	if changed { // what a rejected event superseded need not count again: AtHoc may keep what it has
		values, why = append(values, a.applied(p)), why+" (of newer ones that were held it was ordered to reject them)"
	}

	return values, why
}

// wantedFor returns the duty statuses that are right if e is the latest event.
func (a *auditor) wantedFor(e event, initial string) (values []string, why string) {
	why = "the latest event is " + a.describe(e)
	if at := a.fate(e).decided(); !at.IsZero() {
		why += ", which was held and decided about at " + clock(at)
	}

	if !a.staleEvent(e, a.in.Ended) {
		return []string{a.value(e)}, why
	}

	values = []string{"", initial}
	if a.in.Rules.Cleans && a.staleValue(initial, a.in.Started) {
		values = []string{""}
	}

	if !a.staleEvent(e, a.in.Started) { // it has become stale during the run
		values = append(values, a.value(e))
	}

	return values, why + ", which is stale"
}

// refused reports whether AtHoc permanently refused a value, so that the pipeline was right to give up on it.
func (a *auditor) refused(p *person, value string) bool {
	return slices.ContainsFunc(p.sends, func(s send) bool { return s.value == value && s.denied })
}

// applied returns what AtHoc holds according to the call log.
func (a *auditor) applied(p *person) string {
	value, at := a.initial(p), int64(0)
	for _, s := range p.sends {
		if s.applied && s.appliedAt >= at {
			value, at = s.value, s.appliedAt
		}
	}

	return value
}

func (a *auditor) lastSends(p *person) string {
	if len(p.sends) == 0 {
		return "nothing was ever sent for the user"
	}

	var b strings.Builder
	b.WriteString("sent last:")

	for _, s := range p.sends[max(0, len(p.sends)-3):] {
		fmt.Fprintf(&b, " %q by %s (applied %t, confirmed %t)", s.value, name(s.call), s.applied, s.confirmed)
	}

	return b.String()
}
