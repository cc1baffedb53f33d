package client

import (
	"math"
	"time"

	"bobosync/shared/control"
)

// Effort estimates the calls that a number of users needs, and how long they take.
func Effort(users int, s control.SendingState) (calls int, d time.Duration) {
	if s.BatchSize <= 0 || s.RateLimit <= 0 {
		return 0, 0
	}
	calls = int(math.Ceil(float64(users) / float64(s.BatchSize)))
	rate := s.RateLimit
	if s.Breaker.Slow > 0 {
		rate *= s.Breaker.Slow
	}
	return calls, time.Duration(float64(calls) / rate * float64(time.Second))
}
