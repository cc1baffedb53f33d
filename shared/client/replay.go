package client

// How long a replay takes, and the times and files that people name.

import (
	"context"
	"fmt"
	"math"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// Effort estimates how many calls a number of users needs, and how long they take.
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

// Moment parses a time as people write it: RFC 3339, a date with or without a time in now's zone, or a duration such as
// 90m, which means that long ago.
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

// FileID finds the one file that a name, an id, or the beginning of an id refers to.
func FileID(ctx context.Context, conn *bus.Conn, text string) (string, error) {
	found, err := Ask[[]control.FoundFile](ctx, conn, topology.Ingest, control.FindFile, control.FindRequest{Text: text})
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", fmt.Errorf("no file %q is known: bobosync files list shows the names", text)
	case len(found) > 1:
		return "", fmt.Errorf("%d files have had the name %q: name one by its id, such as %.12s", len(found), text, found[0].ID)
	}

	return found[0].ID, nil
}

// DuringPause says that what was ordered waits for the end of a pause.
func DuringPause(p *breaker.Pause) string {
	return fmt.Sprintf("PAUSED until %s by %s (%s): nothing of it is sent before that ends; bobosync resume ends it now.",
		text.When(p.Until), p.By, p.Reason)
}

// WhenSent says when ordered updates will be sent: how many calls they take and how long that lasts, or what delays
// them. The parameter err is the failure to obtain s, which means that no publisher is running.
func WhenSent(calls int, estimate time.Duration, s control.SendingState, err error, now time.Time) string {
	switch {
	case err != nil:
		return "No publisher is there now: nothing is sent until one is."
	case s.Pause.InForce(now):
		return DuringPause(s.Pause)
	case s.Breaker.Open():
		return fmt.Sprintf("AtHoc is not to be had since %s (%s): it is sent when AtHoc is back, in some %d calls.", text.When(s.Breaker.Since), s.Breaker.Cause, calls)
	default:
		return fmt.Sprintf("Some %d calls, about %s at the present rate.", calls, estimate.Round(time.Second))
	}
}
