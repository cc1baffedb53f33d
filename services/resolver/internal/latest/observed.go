package latest

import (
	"time"

	"bobosync/shared/event"
)

const (
	// seenMargin is how much older than an observation an answer of AtHoc's may be and still count as newer, since the
	// clocks of two machines differ a little. A wrong judgement does no harm: it only resends what is wanted.
	seenMargin = 2 * time.Second
	// refusalHolds is how long the clearing of stale duty is not retried after AtHoc has refused it.
	refusalHolds = 24 * time.Hour
	// clearTimeout is how long a clear command for an unmanaged user counts as under way.
	clearTimeout = time.Hour
)

// Observed is the duty status that AtHoc was seen to hold for a user.
type Observed struct {
	// On: the status is a date, and At is that date in Unix seconds. At2, if not 0, is the other moment that AtHoc's
	// text can mean: a text is ambiguous in the hour that autumn repeats.
	On      bool
	At, At2 int64
	// Odd: the status is something other than a date.
	Odd bool
	// Seen is a moment before AtHoc was asked.
	Seen time.Time
}

// empty reports whether AtHoc holds nothing.
func (o Observed) empty() bool { return !o.On && !o.Odd }

// stale reports whether the status is duty that is too old, whichever of the two moments it began at.
func (o Observed) stale(now time.Time, rules Rules) bool {
	return o.On && !o.Odd && rules.Stale(true, max(o.At, o.At2), now)
}

// is reports whether AtHoc's text can mean duty since the given Unix second.
func (o Observed) is(at int64) bool { return o.At == at || o.At2 != 0 && o.At2 == at }

// Judgement is the conclusion from an observation.
type Judgement struct {
	// UnderWay: a newer status is on its way, or was confirmed after the observation. All other fields are zero then.
	UnderWay bool
	// WantOn and WantAt are the status that the user should have.
	WantOn bool
	WantAt int64
	// Why says what is wrong and what has probably happened. It is empty if nothing is wrong, or nothing that is
	// handled here.
	Why string
	// Send: the wanted status should be sent.
	Send bool
}

// The texts of Judgement.Why.
const (
	WhyStale     = "stale duty"
	WhyBookedOff = "still on duty in AtHoc although booked off"
	WhyCleared   = "cleared in AtHoc by hand, or an update was lost"
	WhyOlder     = "an older status: a restored backup, or a lost update"
	WhyNewer     = "a newer status: set in AtHoc by hand"
	WhyOdd       = "not a date: set in AtHoc by hand"
	WhyForbidden = "AtHoc refuses to change this user"
	WhyDead      = "AtHoc does not take this status: see the dead letters"
)

// Expire judges what AtHoc holds for a known worker's user, looking only for stale duty. The latest event decides what
// is wanted: duty that is wanted and fresh stays, whatever AtHoc holds. Other differences are left to Compare.
func (w *Worker) Expire(o Observed, user string, now time.Time, rules Rules) Judgement {
	if w.underWay(o) {
		return Judgement{UnderWay: true}
	}

	want := w.Latest.want(user, w.stale(now, rules))
	j := Judgement{WantOn: want.On, WantAt: want.At}
	if !o.stale(now, rules) || want.On || w.Confirmed.refuses(want) != "" && now.Sub(time.Unix(w.Confirmed.Answered, 0)) < refusalHolds {
		return j
	}

	j.Why, j.Send = WhyStale, true

	return j
}

// Compare compares what AtHoc holds for a known worker's user with what it should hold.
func (w *Worker) Compare(o Observed, user string, now time.Time, rules Rules) Judgement {
	if w.underWay(o) {
		return Judgement{UnderWay: true}
	}

	want := w.Latest.want(user, w.stale(now, rules))

	j := Judgement{WantOn: want.On, WantAt: want.At, Why: o.difference(want, w.Latest, now, rules)}
	if j.Why == "" {
		return j
	}

	if refusal := w.Confirmed.refuses(want); refusal != "" {
		j.Why = refusal
		return j
	}

	j.Send = true

	return j
}

// underWay reports whether an observation may be older than what is known of the worker.
func (w *Worker) underWay(o Observed) bool {
	return w.Unresolved || w.Unconfirmed() || w.InDoubt != 0 || w.Replay != "" ||
		w.Confirmed != nil && w.Confirmed.Answered >= o.Seen.Add(-seenMargin).Unix()
}

// difference returns how the status differs from what is wanted for the latest event, as one of the Why texts; "" if it
// does not. AtHoc keeps whole seconds, as events do.
func (o Observed) difference(want Sent, latest Event, now time.Time, rules Rules) string {
	switch {
	case o.Odd:
		return WhyOdd
	case !want.On && o.empty(), want.On && o.On && o.is(want.At):
		return ""
	case o.empty():
		return WhyCleared
	case o.stale(now, rules) && !want.On, o.is(latest.At) && latest.On:
		return WhyStale
	case max(o.At, o.At2) > latest.At:
		return WhyNewer
	case !want.On:
		return WhyBookedOff
	default:
		return WhyOlder
	}
}

// refuses returns why AtHoc will not take what is wanted, judging by its last answer; "" if it may, or if there is no
// answer. An answer that AtHoc does not know the user no longer counts: AtHoc was seen to have the user now.
func (c *Confirmed) refuses(want Sent) string {
	switch {
	case c == nil || c.User != want.User:
		return ""
	case c.Outcome == event.ForbiddenUser:
		return WhyForbidden
	case c.Outcome == event.Dead && c.Version == want.Version && c.On == want.On:
		return WhyDead
	default:
		return ""
	}
}

// Correct returns the update that resends the worker's status because AtHoc was seen to hold another one, and the
// outcome of the latest row if the update settles it (else Pending). AtHoc's previous answer no longer counts, so that
// the update is made again if it is lost with the broker's store.
func (w *Worker) Correct(employee, user string, reason event.Reason, now time.Time, rules Rules) (*event.Update, event.Outcome) {
	before := w.Confirmed

	u := w.Again(employee, user, reason, now, rules)
	if u == nil {
		return nil, event.Pending
	}

	w.Confirmed = nil
	dead := before != nil && before.Outcome == event.Dead && before.Version == w.Latest.Version
	if w.Latest.On && !u.On && (w.Open || dead) {
		// AtHoc is sent off duty, which is not what the row says: its answer must not settle the row as applied.
		w.Open = false
		return u, event.Expired
	}

	return u, event.Pending
}

// Clear is the record of a clear command for an unmanaged user with stale duty.
type Clear struct {
	// Published is when the command was published, in Unix seconds.
	Published int64
	// Outcome is AtHoc's answer, or Pending; Answered is when AtHoc answered, in Unix seconds.
	Outcome  event.Outcome
	Answered int64
}

// ExpireUnmanaged judges what AtHoc holds for an unmanaged user: the only requirement is that no stale duty stays. last
// is the last clear command that was published for the user; nil if none is known.
func ExpireUnmanaged(o Observed, last *Clear, now time.Time, rules Rules) Judgement {
	j := Judgement{WantAt: max(o.At, o.At2)}
	if !o.stale(now, rules) {
		return j
	}

	if last != nil {
		refused := last.Outcome == event.ForbiddenUser || last.Outcome == event.Dead
		switch {
		case last.Outcome == event.Pending && now.Sub(time.Unix(last.Published, 0)) < clearTimeout,
			last.Outcome != event.Pending && last.Answered >= o.Seen.Add(-seenMargin).Unix():
			return Judgement{UnderWay: true}
		case refused && now.Sub(time.Unix(last.Answered, 0)) < refusalHolds:
			return j
		}
	}

	j.Why, j.Send = WhyStale, true

	return j
}
