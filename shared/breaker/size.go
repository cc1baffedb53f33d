package breaker

import (
	"math"
	"time"
)

// Size is what has been learnt about how many users AtHoc takes in a call. Calls become smaller when they are too large
// for AtHoc or for the path to it, or take too long, and grow again step by step. The zero value means that nothing is
// known yet.
type Size struct {
	// Most is the most users in a call; 0 if nothing is known yet.
	Most int `json:"most,omitempty"`
	// Hold is how long calls do not grow after one was too large, and GrowAt is when that time ends.
	Hold   time.Duration `json:"hold,omitempty"`
	GrowAt time.Time     `json:"grow_at,omitzero"`
}

const (
	// firstSize is the most users of the first call, which shows how fast AtHoc is.
	firstSize = 100
	// firstHold and longestHold bound how long calls stay small after one was too large. The time doubles when growing
	// has failed again.
	firstHold, longestHold = 5 * time.Second, 10 * time.Minute
	// Fractions of the call timeout: a call below swift doubles the batch, one below steady grows it by 10 %, and a
	// slower one shrinks it, aiming at wanted.
	swift, steady, wanted = 0.3, 0.8, 0.5
	// fewest is the number of users up to which a slow call is not put down to their number; only a failure makes it
	// smaller.
	fewest = 25
)

// Limit returns the most users that a call may carry by what is known, which is at most batch.
func (z Size) Limit(batch int) int {
	if z.Most == 0 {
		return min(batch, firstSize)
	}
	return min(batch, z.Most)
}

// Answered takes into account a call that AtHoc has answered: it carried so many users, and took so long of the timeout
// that it had.
func (z Size) Answered(users, batch int, took, timeout time.Duration, now time.Time) Size {
	limit := z.Limit(batch)
	part := float64(took) / float64(timeout)
	switch {
	case part > steady && users > fewest:
		z.Most = min(limit, max(int(float64(users)*wanted/part), fewest))
		return z
	case part > steady, limit == batch, 2*users < limit, now.Before(z.GrowAt):
		if z.Most == 0 && limit == batch {
			z.Most = limit
		}
		return z
	case part > swift:
		z.Most = min(limit+max(limit/10, 1), batch)
	case z.Most == 0: // nothing is known to be wrong with larger ones
		z.Most = min(max(int(math.Min(float64(users)*wanted/max(part, 1e-6), float64(batch))), limit), batch)
	default:
		z.Most = min(2*limit, batch)
	}

	if z.Most == batch {
		z.Hold = 0
	}

	return z
}

// TooLarge takes into account a call that failed because of what it carried: the next ones carry that number divided by
// divisor.
func (z Size) TooLarge(users, batch, divisor int, now time.Time) Size {
	most := max(users/divisor, 1)
	if limit := z.Limit(batch); most >= limit {
		return z // calls were made at least that small after this one was cut
	}

	z.Most = most
	if now.Before(z.GrowAt) { // the same trouble, which is not over yet
		z.GrowAt = now.Add(z.Hold)
		return z
	}

	z.Hold = min(max(2*z.Hold, firstHold), longestHold)
	z.GrowAt = now.Add(z.Hold)

	return z
}
