// Package breaker decides when a call to AtHoc may be made. All callers share one circuit breaker: its state lies in
// the broker, so that one replica's 429 slows all of them down and an outage gets one probe at a time.
//
// The state also holds what the callers have learnt about AtHoc: how many users a call may carry, and whose status
// makes calls fail.
//
// The rules are pure functions of a State; a Breaker keeps the state in a key-value bucket.
package breaker

import (
	"slices"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/pause"
)

// Limits are the bounds that the rules keep.
type Limits struct {
	// Rate is the most calls a second.
	Rate float64
	// CallTimeout is the longest that a call can take; a probe that has not reported by then, and a little more, is
	// lost.
	CallTimeout time.Duration
	// Settings is a random name for the connection's settings, the same for all callers that have the same settings. If
	// AtHoc refused settings other than these, that need not be waited out.
	Settings string
	// Updates is set if the caller's calls are updates. When AtHoc answers searches all along, only updates show
	// whether it takes updates again.
	Updates bool

	// search is set if searches are the probes.
	search bool
}

// spacing returns the time between two calls if AtHoc takes the fraction slow of the rate; 0 means all of it.
func (l Limits) spacing(slow float64) time.Duration {
	rate := l.Rate
	if slow > 0 {
		rate *= slow
	}

	return time.Duration(float64(time.Second) / rate)
}

// Waits between probes. In an outage, however long, probes are frequent, since a probe is a small search. After a
// refusal, which only a person can fix, they are rare from the start, since too many attempts can lock an account.
const (
	// outageWait is the time from the beginning of a probe to the next one, outagePause the least time from its end.
	outageWait, outagePause  = time.Second, 200 * time.Millisecond
	refusedFirst, maxRefused = 30 * time.Second, 5 * time.Minute
	throttleFirst            = time.Second
	maxThrottle              = 30 * time.Second
	slowest                  = 1.0 / 16
	probeMargin              = 5 * time.Second
	clockMargin              = time.Minute
	// searchShortest and searchLongest bound the time that AtHoc has to answer a probe: short, since one that hangs
	// longer shows nothing more, but long enough for an AtHoc that is known to be slow.
	searchShortest, searchLongest = 800 * time.Millisecond, 5 * time.Second
	// thoroughly: in an outage, one probe in so many is an update with the full call timeout. AtHoc could be slower
	// than ever before, or answer updates and no searches.
	thoroughly = 60
)

// FailureClass is the kind of failure that a caller reports.
type FailureClass string

// The failure classes.
const (
	// None: the call was answered.
	None FailureClass = ""
	// Outage: AtHoc cannot be reached or does not answer as it should.
	Outage FailureClass = "outage"
	// Refused: AtHoc refuses the account, the organisation or the address; a person has to fix it.
	Refused FailureClass = "refused"
	// Throttled: AtHoc asks for fewer calls.
	Throttled FailureClass = "throttled"
)

// State is the circuit breaker's state. The zero value lets calls through.
type State struct {
	// Class is what holds calls back now; None or Throttled if they are let through.
	Class FailureClass `json:"trouble,omitempty"`
	// Cause describes it for the operator.
	Cause string `json:"cause,omitempty"`
	// Since is when it began.
	Since time.Time `json:"since,omitzero"`
	// Failures counts the failed calls and probes since then.
	Failures int `json:"failures,omitempty"`
	// ProbeAt is when the next probe may be made.
	ProbeAt time.Time `json:"probe_at,omitzero"`
	// ProbeUntil, if set, is when a probe under way must have reported.
	ProbeUntil time.Time `json:"probe_until,omitzero"`
	// Next is the earliest moment of the next call, set by the rate limit or by what AtHoc asked for.
	Next time.Time `json:"next,omitzero"`
	// Slow is the fraction of the rate that AtHoc takes, after it has throttled; 0 or 1 means all of it.
	Slow float64 `json:"slow,omitempty"`
	// Logged is when any caller last logged the trouble, or that AtHoc throttles.
	Logged time.Time `json:"told,omitzero"`
	// Settings names the settings that were refused.
	Settings string `json:"settings,omitempty"`
	// Generation counts how often the circuit breaker has opened, so that a call that was let through before an opening
	// does not count as a failed probe.
	Generation int `json:"generation,omitempty"`

	// Searched, if set, is an outage that was over according to a search, while no update has been answered since. If
	// an update fails now, either something about that update makes it fail, or AtHoc answers only searches.
	Searched *Outlasted `json:"searched,omitempty"`
	// OnlyUpdates is set if AtHoc answers searches in this outage, so that only updates can probe it.
	OnlyUpdates bool `json:"only_updates,omitempty"`
	// Took is how long the updates that AtHoc answered have taken recently.
	Took time.Duration `json:"took,omitempty"`
	// Size is how many users a call may carry.
	Size Size `json:"size,omitzero"`
	// PutOff are the users who make calls fail, the oldest first.
	PutOff PutOffs `json:"put_off,omitempty"`
}

// Outlasted is an outage that may be over.
type Outlasted struct {
	Since    time.Time `json:"since"`
	Failures int       `json:"failures"`
	Logged   time.Time `json:"told"`
}

// Open reports whether calls are held back.
func (s State) Open() bool { return s.Class == Outage || s.Class == Refused }

// Permit is the permission to make one call now.
type Permit struct {
	// Probe says that the call finds out whether the trouble is over.
	Probe bool
	// Search says that the probe must be a search, to be answered within Deadline.
	Search     bool
	Deadline   time.Duration
	Generation int
}

// Ask asks for a call at the given moment. It returns the state to store and a permit, or how long to wait before
// asking again.
func (s State) Ask(now time.Time, l Limits) (State, Permit, time.Duration) {
	if wait := s.Next.Sub(now); wait > 0 {
		return s, Permit{}, wait
	}

	p := Permit{Generation: s.Generation}
	if s.Open() && (s.Class == Refused || l.Updates || !s.OnlyUpdates) {
		if wait := max(s.ProbeUntil.Sub(now), s.ProbeAt.Sub(now)); wait > 0 {
			return s, Permit{}, wait
		}

		p.Probe, p.Search, p.Deadline = true, l.search && s.searches(), searchDeadline(s.Took)
		s.ProbeUntil = now.Add(l.CallTimeout + probeMargin)
		if p.Search {
			s.ProbeUntil = now.Add(p.Deadline + probeMargin)
		}

		s.ProbeAt = now.Add(outageWait)
	}

	s.Next = now.Add(l.spacing(s.Slow))

	return s, p, 0
}

// searches reports whether the next probe is a search.
func (s State) searches() bool {
	return s.Class == Outage && !s.OnlyUpdates && s.Failures%thoroughly != thoroughly-1
}

// searchDeadline returns the time that AtHoc has to answer a probe, judging by how long its updates took.
func searchDeadline(took time.Duration) time.Duration {
	return min(max(2*took, searchShortest), searchLongest)
}

// SettingsChanged allows a probe at once if AtHoc refused settings other than those of l: somebody has changed them.
func (s State) SettingsChanged(now time.Time, l Limits) State {
	if s.Class == Refused && s.Settings != l.Settings {
		s.ProbeAt, s.ProbeUntil, s.Settings = now, time.Time{}, l.Settings
	}
	return s
}

// withoutFar drops times that are farther away than any wait can be: the clock was put back, and calls must not stop
// for as long as it was put back by.
func (s State) withoutFar(now time.Time, l Limits) State {
	spacing := time.Duration(float64(time.Second) / (l.Rate * slowest))

	far := now.Add(max(athoc.MaxRetryAfter, l.CallTimeout+probeMargin, spacing) + clockMargin)
	for _, at := range []*time.Time{&s.Next, &s.ProbeAt, &s.ProbeUntil, &s.Logged, &s.Size.GrowAt} {
		if at.After(far) {
			*at = time.Time{}
		}
	}

	if s.Slow == 0 && s.Next.After(now.Add(l.spacing(0)+clockMargin)) { // AtHoc has asked for no wait
		s.Next = time.Time{}
	}

	s.PutOff = slices.Clone(s.PutOff)
	for i := range s.PutOff {
		if at := &s.PutOff[i].Until; at.After(now.Add(maxPutOff + clockMargin)) {
			*at = time.Time{}
		}
	}

	return s
}

// Pace asks for a call that belongs to one already let through, such as its repetition with a new token. Only the rate
// holds it back.
func (s State) Pace(now time.Time, l Limits) (State, time.Duration) {
	if wait := s.Next.Sub(now); wait > 0 {
		return s, wait
	}

	s.Next = now.Add(l.spacing(s.Slow))

	return s, 0
}

// Report takes the outcome of a call into account. RetryAfter is how long AtHoc asks to wait, 0 if it does not say;
// jitter is a random number from 0 to 1.
func (s State) Report(now time.Time, p Permit, class FailureClass, cause string, retryAfter time.Duration, jitter float64) State {
	switch class {
	case None:
		return s.succeeded(p)
	case Throttled:
		return s.throttled(now, p, cause, retryAfter)
	default:
		return s.failed(now, p, class, cause, retryAfter, jitter)
	}
}

func (s State) succeeded(p Permit) State {
	if s.Open() && !p.current(s) {
		return s // it was let through before the trouble began, or is not a probe of it
	}

	slow := s.Slow
	if slow > 0 {
		slow += (1 - slow) / 10 // the rate comes back in small steps
		if slow > 0.95 {
			slow = 0
		}
	}

	next := s.lasting()
	next.Slow = slow
	if p.Search && s.Class == Outage {
		next.Searched = &Outlasted{Since: s.Since, Failures: s.Failures, Logged: s.Logged}
	}

	if slow > 0 {
		next.Logged = s.Logged
	}

	return next
}

// current reports whether the permit is for a probe of the trouble that s is in.
func (p Permit) current(s State) bool { return p.Probe && p.Generation == s.Generation }

// lasting returns the part of the state that outlives trouble.
func (s State) lasting() State {
	return State{
		Next: s.Next, Slow: s.Slow, Generation: s.Generation, Searched: s.Searched, Took: s.Took, Size: s.Size, PutOff: s.PutOff,
	}
}

func (s State) throttled(now time.Time, p Permit, cause string, retryAfter time.Duration) State {
	if s.Open() { // the probe was answered: the service is there again
		if !p.current(s) {
			return s
		}

		logged := s.Logged
		s = s.lasting()
		s.Logged = logged
	}

	if s.Class != Throttled {
		s.Class, s.Since, s.Failures = Throttled, now, 0
	}

	s.Cause = cause
	s.Failures++
	if s.Slow == 0 {
		s.Slow = 1
	}

	s.Slow = max(s.Slow/2, slowest)
	if retryAfter <= 0 {
		retryAfter = pause.Delay(throttleFirst, maxThrottle, s.Failures, 1)
	}

	if until := now.Add(retryAfter); until.After(s.Next) {
		s.Next = until
	}

	return s
}

func (s State) failed(now time.Time, p Permit, class FailureClass, cause string, retryAfter time.Duration, jitter float64) State {
	if s.Open() && !p.current(s) {
		return s // a straggler from before: the trouble is known
	}

	switch {
	case !s.Open():
		s.Since, s.Failures, s.ProbeAt = now, 0, time.Time{}
		if before := s.Searched; class == Outage && before != nil {
			s.Since, s.Failures, s.Logged, s.OnlyUpdates = before.Since, before.Failures, before.Logged, true
		}

		s.Generation++
	case s.Class != class:
		s.Failures = 0 // the failures of an outage must not make a refusal wait longer
	}

	s.Class, s.Cause, s.ProbeUntil = class, cause, time.Time{}
	s.Failures++
	if class == Refused {
		s.ProbeAt = now.Add(max(pause.Delay(refusedFirst, maxRefused, s.Failures, jitter), retryAfter))
		return s
	}

	if at := now.Add(max(outagePause, retryAfter)); at.After(s.ProbeAt) {
		s.ProbeAt = at
	}

	return s
}

// Update is an update that AtHoc has answered.
type Update struct {
	// Users is how many users it carried, Batch the most that an update may carry.
	Users, Batch int
	Took         time.Duration
	// Settled are users of the call who are no longer put off.
	Settled []string
}

// Answered takes an answered update into account; timeout is the longest that it could have taken.
func (s State) Answered(u Update, timeout time.Duration, now time.Time) State {
	s.Size = s.Size.Answered(u.Users, u.Batch, u.Took, timeout, now)
	if took := min(u.Took, timeout); took > 2*s.Took || took < s.Took/2 { // only roughly, so that the state is not stored anew for each call
		s.Took = took.Round(time.Millisecond)
	}

	if !s.Open() {
		s.Searched = nil
	}

	s.PutOff = s.PutOff.Without(u.Settled...)

	return s
}

// unsearchable takes into account that a probe was answered, but not as a search should be: only an update can show
// whether AtHoc takes updates again.
func (s State) unsearchable(now time.Time, p Permit) State {
	if s.Open() && p.current(s) {
		s.OnlyUpdates, s.ProbeUntil, s.ProbeAt = true, time.Time{}, now
	}
	return s
}
