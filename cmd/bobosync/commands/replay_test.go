package commands

import (
	"testing"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/client"
	"bobosync/shared/control"
)

func TestMoment(t *testing.T) {
	now := time.Date(2024, 6, 17, 14, 30, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"90m":                  now.Add(-90 * time.Minute),
		"-2h":                  now.Add(-2 * time.Hour),
		"2024-06-17 10:00":     time.Date(2024, 6, 17, 10, 0, 0, 0, time.Local),
		"2024-06-17T10:00":     time.Date(2024, 6, 17, 10, 0, 0, 0, time.Local),
		"2024-06-17 10:00:05":  time.Date(2024, 6, 17, 10, 0, 5, 0, time.Local),
		"2024-06-16":           time.Date(2024, 6, 16, 0, 0, 0, 0, time.Local),
		"2024-06-17T10:00:00Z": time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC),
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, want %v; error %v", text, got, want, err)
		}
	}

	for _, text := range []string{"", "soon", "17.6.2024", "2024-02-30", "90"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestEffort(t *testing.T) {
	for name, c := range map[string]struct {
		users int
		s     control.SendingState
		calls int
		d     time.Duration
	}{
		"nobody":        {0, control.SendingState{BatchSize: 100, RateLimit: 2}, 0, 0},
		"a part":        {101, control.SendingState{BatchSize: 100, RateLimit: 2}, 2, time.Second},
		"slowed down":   {400, control.SendingState{BatchSize: 100, RateLimit: 2, Breaker: breaker.State{Slow: 0.25}}, 4, 8 * time.Second},
		"no publishers": {400, control.SendingState{}, 0, 0},
	} {
		if calls, d := client.Effort(c.users, c.s); calls != c.calls || d != c.d {
			t.Errorf("%s: %d calls, %v", name, calls, d)
		}
	}
}
