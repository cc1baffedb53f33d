package client

import (
	"fmt"
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

// Moment reads what people mean by a time: RFC 3339, a date with or without a time in the zone of now, or a duration such as 90m that
// has passed since.
func Moment(words string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(words); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, words, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: use 2024-06-17 14:30, 2024-06-17T14:30:00Z, or how long ago, such as 90m", words)
}
