package publisher

// This file decides what follows from a call that failed as a whole. It does nothing itself.

import (
	"net/http"
	"slices"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
)

const (
	// failuresInARow is how many calls of a delivery must fail in a row before AtHoc is to blame, and not what they
	// carried: if a single user makes calls fail, one of the two halves of a failed call is answered.
	failuresInARow = 3
	// aloneInARow is the same for calls of one user each.
	aloneInARow = 3
	// fewUsers is the largest number of users with which a call cannot be too large, as long as AtHoc answers nothing
	// else.
	fewUsers = 25
	// gentler divides the size of calls after one that took too long, smaller after one that was too large.
	gentler, smaller = 4, 2
	// lately is how long ago AtHoc may have answered another update for a failure to be blamed on what the call
	// carried.
	lately = 5 * time.Minute
	// putOffPollInterval is how soon a user who is put off is considered again, so that the user is sent as soon as
	// that makes sense.
	putOffPollInterval = 2 * time.Second
	// hopelessAfter and hopelessCalls are how long, and in how many calls, a user must have made calls fail to be given
	// up.
	hopelessAfter, hopelessCalls = 24 * time.Hour, 20
)

// failure is what is known of a call that failed as a whole.
type failure struct {
	kind   athoc.Kind
	status int
	// update: the update itself failed, and not the request for a token.
	update bool
	// inDoubt: AtHoc may still be working on it.
	inDoubt bool
	users   int
	// probe: the call was meant to find out whether AtHoc takes updates again.
	probe bool
	// there: the update was sent, and AtHoc is known to work: it has answered a search since it last failed, or another
	// update of this delivery, or this user is known to make calls fail. Without a token or a connection nothing was
	// sent, and no user can be to blame.
	there bool
	// answered: AtHoc has answered another update, in this delivery or lately, or this user is known to make calls
	// fail.
	answered bool
	// inARow counts the calls of this delivery that failed one after the other, this one included. alone counts the
	// calls with one user each that failed since AtHoc last answered an update, in earlier deliveries too.
	inARow, alone int
}

// action is what becomes of the users of a call that failed.
type action int

const (
	// returnToQueue: they are redelivered, with the rest of the batch, when the circuit breaker lets calls through.
	returnToQueue action = iota
	// halve: each half is sent by itself, at once.
	halve
	// halveLater: the same, after the rest of the batch.
	halveLater
	// trySingle: two of them are sent alone, one after the other, and the rest once AtHoc has answered one of these
	// calls.
	trySingle
	// later: they are sent after the rest of the batch.
	later
	// shrink: they are sent in calls of the size that is now the limit.
	shrink
	// refuse: AtHoc refuses the only user of the call for good.
	refuse
	// putOff: this user alone makes calls fail, and is sent again later.
	putOff
)

// step is what follows from a failure.
type step struct {
	action action
	// divisor, if it is not 0, is what the number of users in the call is divided by to get the size of the next calls.
	divisor int
}

// next decides what follows from a failure.
func next(f failure) step {
	switch {
	case f.kind == athoc.TooLarge && f.users > 1:
		return step{action: shrink, divisor: smaller}
	case f.kind == athoc.BadRequest && f.users > 1:
		return step{action: halve}
	case f.kind == athoc.BadRequest:
		return step{action: refuse}
	case f.refusal() && f.users > 1 && f.inARow == 1 && !f.answered && !f.probe: // a firewall may refuse just this body
		return step{action: trySingle}
	case f.refusal() && f.users == 1 && f.inARow == 2 && !f.answered && !f.probe: // it may be the user to blame
		return step{action: later}
	case (f.refusal() || f.kind == athoc.TooLarge) && f.answered && !f.probe:
		return f.suspect()
	case f.kind != athoc.Outage, f.probe: // a single user being too large is the path's fault
		return step{action: returnToQueue}
	case !f.there && f.users > fewUsers && f.tooSlow():
		return step{action: returnToQueue, divisor: gentler}
	case !f.there:
		return step{action: returnToQueue}
	default:
		return f.suspect()
	}
}

// refusal reports whether an update was refused in a way for which settings may be to blame, or something on the path
// that does not like the content: firewalls answer 403 or redirect to a page of their own, and IIS answers 404 to a
// body that is too large.
func (f failure) refusal() bool {
	return f.update && (f.kind == athoc.Forbidden || f.kind == athoc.NotFound || f.kind == athoc.Unauthorized)
}

// suspect decides what follows if AtHoc is there, so that a user of the call may have made it fail.
func (f failure) suspect() step {
	switch {
	case f.users == 1 && f.alone < aloneInARow:
		return step{action: putOff}
	case f.users == 1:
		return step{action: returnToQueue}
	case f.refusal() && f.inARow >= failuresInARow: // several are to blame, or AtHoc does not take so many at a time
		return step{action: shrink, divisor: gentler}
	case f.inDoubt, f.inARow >= failuresInARow:
		return step{action: returnToQueue, divisor: gentler}
	default:
		return step{action: halveLater}
	}
}

// tooSlow reports whether the call may have failed because of its size: there was no answer in time, or only a part of
// one.
func (f failure) tooSlow() bool { return f.inDoubt || f.status == http.StatusOK }

// schedule is the order in which the jobs of a batch are sent.
type schedule struct {
	calls [][]job
	// later are jobs that are not sent now, since their users are put off.
	later []job
}

// scheduled cuts jobs into calls of at most size users. A probe begins with a single job, chosen by first, so that it
// is a different one each time. Users who were put off come last, each alone, once their time has come.
func scheduled(jobs []job, size int, probe bool, first int, s breaker.State, now time.Time) schedule {
	var out schedule
	var usual, alone []job
	for _, j := range jobs {
		switch known, isPutOff := s.PutOff.Of(j.update.User); {
		case !isPutOff:
			usual = append(usual, j)
		case now.Before(known.Until):
			out.later = append(out.later, j)
		default:
			alone = append(alone, j)
		}
	}

	if probe && len(usual) > 1 {
		at := first % len(usual)
		usual[0], usual[at] = usual[at], usual[0]
		out.calls = append(out.calls, usual[:1:1])
		usual = usual[1:]
	}

	out.calls = append(out.calls, cut(usual, size)...)
	out.calls = append(out.calls, cut(alone, 1)...)

	return out
}

// isHopeless reports whether a user has made calls fail for so long that the user is given up.
func isHopeless(p breaker.PutOff, now time.Time) bool {
	return p.Failures >= hopelessCalls && now.Sub(p.Since) >= hopelessAfter
}

// recut splits parts that were cut for a larger size.
func recut(parts [][]job, size int) [][]job {
	var out [][]job
	for _, part := range parts {
		out = append(out, cut(part, size)...)
	}

	return out
}

// cut splits jobs into parts of at most size.
func cut(jobs []job, size int) [][]job { return slices.Collect(slices.Chunk(jobs, size)) }
