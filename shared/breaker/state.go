// Package breaker decides when a call to AtHoc may be made. One breaker serves all who call: its state lies in the broker, so
// that one replica's 429 slows all of them down and an outage gets one probe at a time.
//
// The rules are pure functions of a State; Shared keeps the state in a key-value bucket.
package breaker

import (
	"math"
	"time"

	"bobosync/shared/athoc"
)

// Limits are the bounds that the rules keep.
type Limits struct {
	// Rate is the most calls a second.
	Rate float64
	// CallTimeout is the longest that a call can take; a probe that has not reported by then, and a little more, is lost.
	CallTimeout time.Duration
	// Settings is a fingerprint of the connection's settings. A refusal of other settings than these need not be waited out.
	Settings string
}

// Waits between probes: after an outage, soon and then ever more rarely; after a refusal that only a person can mend,
// rarely from the start, since an account can be locked by too many tries.
const (
	outageFirst, outageMost   = 500 * time.Millisecond, 30 * time.Second
	refusedFirst, refusedMost = 30 * time.Second, 5 * time.Minute
	throttleFirst             = time.Second
	slowest                   = 1.0 / 16
	probeMargin               = 5 * time.Second
	clockMargin               = time.Minute
)

// FailureClass is the kind of failure that a caller reports.
type FailureClass string

// The kinds of trouble.
const (
	// None: the call was answered.
	None FailureClass = ""
	// Outage: AtHoc cannot be reached or does not answer as it should.
	Outage FailureClass = "outage"
	// Refused: AtHoc refuses the account, the organisation or the address; a person has to mend it.
	Refused FailureClass = "refused"
	// Throttled: AtHoc asks for fewer calls.
	Throttled FailureClass = "throttled"
)

// State is the circuit breaker's memory. The zero value lets calls through.
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
	// ProbeUntil, if it is set, is how long a probe under way has to report.
	ProbeUntil time.Time `json:"probe_until,omitzero"`
	// Next is the earliest moment of the next call, by the rate limit or by AtHoc's word.
	Next time.Time `json:"next,omitzero"`
	// Slow is the part of the rate that AtHoc takes, after it has throttled: 1 or 0 is all of it.
	Slow float64 `json:"slow,omitempty"`
	// Told is when the trouble, or that AtHoc throttles, was logged last, by any caller.
	Told time.Time `json:"told,omitzero"`
	// Settings is the fingerprint of the settings that were refused.
	Settings string `json:"settings,omitempty"`
	// Generation counts openings, so that a call that was let through before one does not count as a failed probe.
	Generation int `json:"generation,omitempty"`
}

// Open says whether calls are held back.
func (s State) Open() bool { return s.Class == Outage || s.Class == Refused }

// Permit is the leave to make one call now.
type Permit struct {
	// Probe says that the call tries whether the trouble is over.
	Probe      bool
	Generation int
}

// Ask asks for a call at the given moment. It returns the state to store and a permit, or how long to wait before asking
// again.
func (s State) Ask(now time.Time, l Limits) (State, Permit, time.Duration) {
	if wait := s.Next.Sub(now); wait > 0 {
		return s, Permit{}, wait
	}
	if s.Open() {
		if wait := s.ProbeUntil.Sub(now); wait > 0 {
			return s, Permit{}, wait
		}
		if wait := s.ProbeAt.Sub(now); wait > 0 {
			return s, Permit{}, wait
		}
		s.ProbeUntil = now.Add(l.CallTimeout + probeMargin)
	}
	s.Next = now.Add(s.spacing(l))
	return s, Permit{Probe: s.Open(), Generation: s.Generation}, 0
}

// SettingsChanged lets a probe be made at once if what was refused came from other settings than those of l: somebody has mended them.
func (s State) SettingsChanged(now time.Time, l Limits) State {
	if s.Class == Refused && s.Settings != l.Settings {
		s.ProbeAt, s.ProbeUntil, s.Settings = now, time.Time{}, l.Settings
	}
	return s
}

// withoutFar drops moments farther away than any wait can be: the clock was put back, and calls must not stop for as long as
// it was.
func (s State) withoutFar(now time.Time, l Limits) State {
	spacing := time.Duration(float64(time.Second) / (l.Rate * slowest))
	far := now.Add(max(athoc.MaxRetryAfter, l.CallTimeout+probeMargin, spacing) + clockMargin)
	for _, at := range []*time.Time{&s.Next, &s.ProbeAt, &s.ProbeUntil, &s.Told} {
		if at.After(far) {
			*at = time.Time{}
		}
	}
	return s
}

// Pace asks for a call that belongs to one which was let through, such as its repetition with a new token: it keeps the rate,
// and nothing else holds it back.
func (s State) Pace(now time.Time, l Limits) (State, time.Duration) {
	if wait := s.Next.Sub(now); wait > 0 {
		return s, wait
	}
	s.Next = now.Add(s.spacing(l))
	return s, 0
}

// spacing is the time between two calls.
func (s State) spacing(l Limits) time.Duration {
	rate := l.Rate
	if s.Slow > 0 {
		rate *= s.Slow
	}
	return time.Duration(float64(time.Second) / rate)
}

// Report takes the outcome of a call into account. RetryAfter is AtHoc's word on when to come again, 0 if it gave none;
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
	if s.Open() && p.Generation != s.Generation {
		return s // it was let through before the trouble began
	}
	slow := s.Slow
	if slow > 0 {
		slow += (1 - slow) / 10 // the rate comes back in small steps
		if slow > 0.95 {
			slow = 0
		}
	}
	next := State{Next: s.Next, Slow: slow, Generation: s.Generation}
	if slow > 0 {
		next.Told = s.Told
	}
	return next
}

func (s State) throttled(now time.Time, p Permit, cause string, retryAfter time.Duration) State {
	if s.Open() { // the probe was answered: the service is there again
		if p.Generation != s.Generation {
			return s
		}
		s = State{Next: s.Next, Slow: s.Slow, Generation: s.Generation, Told: s.Told}
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
		retryAfter = backoff(throttleFirst, outageMost, s.Failures, 1)
	}
	if until := now.Add(retryAfter); until.After(s.Next) {
		s.Next = until
	}
	return s
}

func (s State) failed(now time.Time, p Permit, class FailureClass, cause string, retryAfter time.Duration, jitter float64) State {
	if s.Open() && p.Generation != s.Generation {
		return s // a straggler from before: the trouble is known
	}
	switch {
	case !s.Open():
		s.Since, s.Failures = now, 0
		s.Generation++
	case s.Class != class:
		s.Failures = 0 // the failures of an outage must not make a refusal wait longer
	}
	s.Class, s.Cause, s.ProbeUntil = class, cause, time.Time{}
	s.Failures++
	wait := backoff(outageFirst, outageMost, s.Failures, jitter)
	if class == Refused {
		wait = backoff(refusedFirst, refusedMost, s.Failures, jitter)
	}
	s.ProbeAt = now.Add(max(wait, retryAfter))
	return s
}

// backoff doubles from first to most with each failure, less up to a quarter by jitter.
func backoff(first, most time.Duration, failures int, jitter float64) time.Duration {
	wait := float64(first) * math.Pow(2, float64(min(failures, 30)-1))
	wait = min(wait, float64(most))
	return time.Duration(wait * (0.75 + 0.25*jitter))
}
