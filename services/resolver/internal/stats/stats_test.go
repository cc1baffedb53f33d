package stats

import (
	"fmt"
	"testing"
	"time"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/mapping"
)

// BenchmarkState: it is asked every second or two, with as many workers as there may be.
func BenchmarkState(b *testing.B) {
	var s Stats
	users := map[string]string{}
	now := time.Now()
	for i := range 25_000 {
		employee := fmt.Sprintf("%06d", i)
		users[employee] = employee + "@example.org"
	}
	s.Begin(mapping.NewIndex("m", users), true)
	for i := range 25_000 {
		employee := fmt.Sprintf("%06d", i)
		var w latest.Worker
		w.Take(latest.Event{File: "a", On: i%2 == 0, At: now.Unix() - int64(i)}, false)
		s.Note(employee, w)
	}
	for b.Loop() {
		s.Count(now, latest.Rules{Lifetime: 24 * time.Hour})
	}
}
