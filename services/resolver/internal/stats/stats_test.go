package stats

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/mapping"
)

// BenchmarkState measures Count, which is called every second or two, with as many workers as there may be.
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

// TestSinceWhenItIsNotComplete checks that a resolver that has run for days, and then has to read the files again,
// reports only since when it does that.
func TestSinceWhenItIsNotComplete(t *testing.T) {
	t.Parallel()
	var s Stats
	since := func() time.Time { return s.Count(time.Now(), latest.Rules{}).Recovering }

	s.Begin(mapping.NewIndex("m", nil), true)
	require.Zero(t, since())
	s.SetRecovered(false)

	first := since()
	require.WithinDuration(t, time.Now(), first, time.Minute)
	s.Begin(mapping.NewIndex("m", nil), false) // another session with the broker
	require.Equal(t, first, since())
	s.SetRecovered(true)
	require.Zero(t, since())
}
