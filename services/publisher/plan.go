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
	// failuresInARow is how many calls of a delivery have to fail one after the other for AtHoc, and not what they carried, to be
	// to blame: of a call and its two halves one is answered if a single user makes calls fail.
	failuresInARow = 3
	// aloneInARow is the same for calls of one user each.
	aloneInARow = 3
	// fewUsers is the number of users up to which a call is not too large, as long as AtHoc answers nothing else.
	fewUsers = 25
	// gentler and smaller are by what calls are divided that took too long, or that were too large.
	gentler, smaller = 4, 2
	// lately is how long ago AtHoc may have answered another update for a failure to be blamed on what the call carries.
	lately = 5 * time.Minute
	// putOffPollInterval is how soon a user who is put off is considered again, so that he is sent as soon as that makes sense.
	putOffPollInterval = 2 * time.Second
	// hopeless is how long, and in how many calls, a user has to make calls fail to be given up.
	hopelessAfter, hopelessCalls = 24 * time.Hour, 20
)

// failure is what is known of a call that failed as a whole.
type failure struct {
	kind   athoc.Kind
	status int
	// update: it was the update itself that failed, and not getting a token for it.
	update bool
	// inDoubt: AtHoc may still be working on it.
	inDoubt bool
	users   int
	// probe: the call was to find out whether AtHoc takes updates again.
	probe bool
	// there: the update was sent, and AtHoc has answered a search since it last failed, or another update of this delivery, or is known
	// to fail for this user. Without a token or a connection nothing was sent, and no user can be to blame.
	there bool
	// answered: AtHoc has answered another update, of this delivery or lately, or this user is known to make calls fail.
	answered bool
	// inARow counts the calls of this delivery that failed one after the other, this one included, alone those of one user each,
	// of earlier deliveries too.
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
	// trySingle: one of them is sent alone, if that fails another one, and once AtHoc answers, the others.
	trySingle
	// later: they are sent after the rest of the batch.
	later
	// shrink: they are sent in calls of the size that is tried now.
	shrink
	// refuse: AtHoc refuses this user, alone, for good.
	refuse
	// putOff: this user alone makes calls fail, and is sent again later.
	putOff
)

// step is what follows from a failure.
type step struct {
	action action
	// divisor, if it is not 0, is by what the users of the call are divided for the size of the next ones.
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
	case f.refusal() && f.users > 1 && f.inARow == 1 && !f.answered && !f.probe: // a firewall may have refused this body alone
		return step{action: trySingle}
	case f.refusal() && f.users == 1 && f.inARow == 2 && !f.answered && !f.probe: // it may be the very one
		return step{action: later}
	case (f.refusal() || f.kind == athoc.TooLarge) && f.answered && !f.probe:
		return f.suspect()
	case f.kind != athoc.Outage, f.probe: // a single user who is too large is the path's fault
		return step{action: returnToQueue}
	case !f.there && f.users > fewUsers && f.tooSlow():
		return step{action: returnToQueue, divisor: gentler}
	case !f.there:
		return step{action: returnToQueue}
	default:
		return f.suspect()
	}
}

// refusal reports whether an update was refused in a way that settings may be to blame for, or something on the path that does not
// like what it carried: firewalls answer 403 or redirect to a page of theirs, and IIS says 404 to a body that is too large.
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
	case f.refusal() && f.inARow >= failuresInARow: // there are several of them, or AtHoc does not take so many at a time
		return step{action: shrink, divisor: gentler}
	case f.inDoubt, f.inARow >= failuresInARow:
		return step{action: returnToQueue, divisor: gentler}
	default:
		return step{action: halveLater}
	}
}

// tooSlow reports whether the call may have failed for its size: there was no answer in time, or a part of one.
func (f failure) tooSlow() bool { return f.inDoubt || f.status == http.StatusOK }

// schedule is the order in which the jobs of a batch are sent.
type schedule struct {
	calls [][]job
	// later are jobs that are not sent now, as their users are put off.
	later []job
}

// scheduled cuts jobs into calls of at most size users. A probe begins with the job at the given place, alone, so that it is
// another one each time; users who were put off come last, each alone, when their time has come.
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

// isHopeless reports whether a user has made calls fail for so long that he is given up.
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
