// How fresh AtHoc was once nothing went wrong any longer.

package audit

import (
	"maps"
	"slices"
	"time"
)

const (
	// afterCall is how long AtHoc may go on working on a call after its client gave up; its users are left alone for
	// so long.
	afterCall = 3 * time.Second
	// probeEvery is how often the pipeline probes AtHoc while it is out of reach.
	probeEvery = 2 * time.Second
	// busy is what a busy machine may add when nothing is done to services or network.
	busy = 3 * time.Second
)

// within is how long it may take from the end of the last fault until a status is confirmed. A service starts and
// files settle. The leases of publishers that are gone run out, and do so twice, because a lost store may hide such a
// lease. AtHoc is probed, and all users are sent twice, because answers were lost. If nothing was done to services or
// network, a file settles and may wait as long again for another file that is still settling; then there is time for
// one call, and for sending all users twice.
func (a *auditor) within() time.Duration {
	r := a.in.Rules
	calls := (len(a.users) + r.Batch - 1) / max(r.Batch, 1)
	sending := time.Duration(float64(2*calls) / r.Rate * float64(time.Second))
	if r.Start == 0 {
		return 2*r.Settle + r.CallTimeout + sending + busy
	}

	return r.Start + r.Settle + 2*(r.CallTimeout+afterCall) + probeEvery + sending
}

// checkFreshness checks that a worker's latest status is confirmed in time, counted from the end of the last fault,
// the arrival of its file or a person's decision, whichever is last. Whether it was confirmed at all is for checkEnd.
func (a *auditor) checkFreshness() {
	if a.in.Calm.IsZero() {
		return
	}

	bound := a.within()
	for _, employee := range slices.Sorted(maps.Keys(a.workers)) {
		h := a.workers[employee]
		if h.user == nil || h.user.Removed || h.user.Forbidden || len(h.events) == 0 {
			continue
		}

		last := h.events[len(h.events)-1]

		appeared := a.in.Files[last.file].Appeared
		from := appeared
		if a.in.Calm.After(from) {
			from = a.in.Calm
		}

		if maybe, _ := a.fate(last).rejected(); maybe {
			continue
		}

		if decided := a.fate(last).decided(); decided.After(from) { // until then it waited for a person
			from = decided
		}

		i := slices.IndexFunc(h.user.sends, func(s send) bool {
			return s.arrived >= appeared.UnixNano() && s.value == a.value(last) && (s.confirmed || s.denied)
		})
		if i < 0 {
			continue
		}

		if late := time.Unix(0, h.user.sends[i].call.Finished).Sub(from); late > bound {
			a.find(Finding{Kind: Late, User: h.user.Login}, "%s was confirmed by %s, %s after the faults were over or its file was there, and %s would be enough",
				a.describe(last), name(h.user.sends[i].call), late.Round(time.Millisecond), bound.Round(time.Millisecond))
		}
	}
}
